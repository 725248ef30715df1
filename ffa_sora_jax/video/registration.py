"""Rigid registration: shifts and turns the frames of an exam onto one of them."""

from dataclasses import dataclass

import cv2
import numpy as np

from ffa_sora_jax.video import field as fields
from ffa_sora_jax.video import quality

MAX_SHIFT = 0.10  # of the width: beyond, the eye looked elsewhere and the frame stays as it is
MAX_TURN_DEG = 8.0
MIN_AGREEMENT = 0.30  # correlation of the contrasts after the move
_STEPS = 60  # of the refinement


@dataclass(frozen=True)
class Move:
    """Where a frame was moved: about its middle, content to the right, down and clockwise.

    Attributes:
      x, y: shift in shares of the width.
      turn_deg: rotation.
      agreement: correlation of the contrasts with the reference after the move, -1..1.
      applied: False if the frame was left as it was: too far off, or nothing agrees.
    """

    x: float
    y: float
    turn_deg: float
    agreement: float
    applied: bool


def register(video: np.ndarray, reference: int) -> tuple[np.ndarray, list[Move]]:
    """Moves every frame onto the reference frame.

    A shift by phase correlation of the contrasts, then shift and rotation by maximising the
    enhanced correlation coefficient (Evangelidis and Psarakis, 2008).

    Args:
      video: (t, s, s) uint8.
      reference: index of the frame that stays; one with many vessels serves best.

    Returns:
      The moved video, black where nothing is known, and one move per frame.
    """
    contrasts = [_contrast(frame) for frame in video]
    target = contrasts[reference]
    moved, moves = video.copy(), []
    for index, contrast in enumerate(contrasts):
        if index == reference:
            moves.append(Move(0.0, 0.0, 0.0, 1.0, True))
            continue
        matrix, agreement = _align(target, contrast)
        move = _as_move(matrix, agreement, target.shape[0])
        if move.applied and matrix is not None:
            moved[index] = _warp(video[index], matrix, target.shape[0])
        moves.append(move)
    return moved, moves


def _contrast(frame: np.ndarray) -> np.ndarray:
    grey = fields.thumbnail(frame)
    field = fields.find_field(grey)
    inside = None if field is None else fields.inner(field)
    if inside is None:
        return np.zeros(grey.shape, np.float32)
    return cv2.GaussianBlur(np.clip(quality.weber(grey, inside), -1.5, 1.5), (0, 0), 1.5)


def _align(target: np.ndarray, contrast: np.ndarray) -> tuple[np.ndarray | None, float]:
    """(2, 3) float32 from target to frame positions, and the agreement."""
    if not target.any() or not contrast.any():
        return None, 0.0
    window = cv2.createHanningWindow(target.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(target, contrast, window)
    start = np.array([[1, 0, x], [0, 1, y]], np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, 1e-5)
    try:
        agreement, matrix = cv2.findTransformECC(
            target, contrast, start, cv2.MOTION_EUCLIDEAN, criteria
        )
    except cv2.error:  # it did not converge: the frames show different places
        return None, 0.0
    return matrix, float(agreement)


def _as_move(matrix: np.ndarray | None, agreement: float, size: int) -> Move:
    if matrix is None:
        return Move(0.0, 0.0, 0.0, agreement, False)
    turn = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    middle = np.array([(size - 1) / 2, (size - 1) / 2, 1.0])
    x, y = (middle[:2] - matrix @ middle) / size  # the content goes the other way
    near = np.hypot(x, y) <= MAX_SHIFT and abs(turn) <= MAX_TURN_DEG
    return Move(float(x), float(y), -turn, agreement, bool(near and agreement >= MIN_AGREEMENT))


def _warp(frame: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Applies a matrix found on pictures of `size` px to a frame of any size."""
    scale = frame.shape[0] / size
    half = 0.5 * scale - 0.5  # pixel centres
    full = matrix.astype(np.float64).copy()
    full[:, 2] = scale * full[:, 2] + half - full[:, :2] @ np.array([half, half])
    return cv2.warpAffine(
        frame, full, frame.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(0,),
    )  # fmt: skip
