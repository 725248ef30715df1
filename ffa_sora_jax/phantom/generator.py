"""One phantom exam from two numbers: picture, report and truth from a single record.

Every source of chance has its own generator, seeded with (seed, index, purpose), so a clip does
not depend on the order or the number of workers that make the others.
"""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.phantom.anatomy import Anatomy, Grid, sample_anatomy
from ffa_sora_jax.phantom.camera import expose, sample_camera
from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.dye import sample_dye
from ffa_sora_jax.phantom.primitives import Delay, Grow, Primitive, Slow, Vessel
from ffa_sora_jax.phantom.record import Exam, Finding
from ffa_sora_jax.phantom.render import Scene, build_scene, grow_sigma, light, window
from ffa_sora_jax.phantom.report import write_report
from ffa_sora_jax.phantom.vessels import grow_trees
from ffa_sora_jax.phantom.visits import Pose, draw, progress, sample_pose

NUM_FRAMES = 21
SCHEDULES = ("paper", "full", "raw")
FULL_S = (
    *(-1.0, 0.2, 0.9, 1.6, 2.4, 3.3, 4.5, 6.0, 8.0, 11.0, 15.0),
    *(20.0, 28.0, 40.0, 60.0, 90.0, 140.0, 220.0, 330.0, 480.0, 620.0),
)
DELAY_S = {"normal": 0.0, "slightly delayed": 2.0, "delayed": 5.0, "markedly prolonged": 12.0}
COVERED = 0.35  # coverage from which a pixel counts as vessel in the truth masks
HALF = 0.5  # share of a mask's peak from which a pixel counts as lesion


class Purpose(enum.IntEnum):
    """The independent sources of chance of one clip; the numbers never change."""

    EXAM = 0
    ANATOMY = 1
    TREES = 2
    LESIONS = 3
    SCENE = 4
    DYE = 5
    TIMES = 6
    CAMERA = 7
    REPORT = 8
    PROGRESS = 9
    POSE = 10


# What differs between two visits of one eye; all else comes from the stream of the first visit.
OF_A_VISIT = (Purpose.DYE, Purpose.TIMES, Purpose.CAMERA, Purpose.REPORT, Purpose.POSE)


@dataclasses.dataclass(frozen=True, eq=False)
class FindingTruth:
    """Where one finding lies in the picture.

    Attributes:
      kind: lesion class.
      mask: (h, w) bool at its largest.
      center_px: (column, row) of its nominal centre.
      onset_s: first second at which it can be seen.
    """

    kind: str
    mask: np.ndarray
    center_px: tuple[float, float]
    onset_s: float


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """What was drawn where, in the pixels of the (mirrored, for left eyes) picture.

    Attributes:
      artery, vein: (h, w) bool vessel masks, before gaze jitter.
      artery_s, vein_s: (h, w) float32 arrival of dye, nan where there is no vessel.
      disc_px, fovea_px: (column, row).
      disc_radius_px, faz_radius_px: radii.
      findings: one entry per finding of the exam, in the same order.
    """

    artery: np.ndarray
    vein: np.ndarray
    artery_s: np.ndarray
    vein_s: np.ndarray
    disc_px: tuple[float, float]
    fovea_px: tuple[float, float]
    disc_radius_px: float
    faz_radius_px: float
    findings: tuple[FindingTruth, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic exam.

    Attributes:
      video: (t, h, w) uint8; t is 21 unless the schedule is "raw".
      times_s: (t,) float32 seconds since dye first shows at the disc.
      report: the text of the exam.
      exam: the record from which everything was made.
      anatomy: landmarks in DD.
      truth: masks and arrival times in pixels.
    """

    video: np.ndarray
    times_s: np.ndarray
    report: str
    exam: Exam
    anatomy: Anatomy
    truth: Truth

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, in report order."""
        return self.exam.findings

    @property
    def eye(self) -> str:
        """ "right" or "left"."""
        return self.exam.eye


def frame_times(schedule: str, rng: np.random.Generator) -> np.ndarray:
    """(t,) float32 ascending frame times in seconds of one exam.

    "paper": 21 frames, first from 1.6-4 s, last 240-900 s, log-spaced with 20 % jitter (all frames
    pass the vessel filter); "full": 21 fixed frames from before the dye to 620 s; "raw": 6 to 60
    frames as they come from the clinic, about one per second first and single shots later.
    """
    if schedule == "full":
        return np.asarray(FULL_S, np.float32)
    if schedule == "paper":
        first, last = rng.uniform(1.6, 4.0), rng.uniform(240.0, 900.0)
        times = np.geomspace(first, last, NUM_FRAMES)
        times[1:-1] *= rng.uniform(0.8, 1.2, NUM_FRAMES - 2)
        return np.clip(np.sort(times), first, last).astype(np.float32)
    if schedule == "raw":
        count = int(rng.integers(6, 61))
        late = min(int(rng.integers(2, 8)), count - 2)
        early = np.cumsum(rng.uniform(0.6, 1.4, count - late)) - rng.uniform(0.0, 2.0)
        shots = early[-1] + np.cumsum(rng.uniform(20.0, 150.0, late))
        return np.concatenate([early, shots]).astype(np.float32)
    raise ValueError(unknown_name("schedule", schedule, SCHEDULES))


def generate(
    seed: int,
    index: int,
    size: int = 256,
    schedule: str = "paper",
    disease: str | None = None,
    eye: str | None = None,
    visit: int = 0,
) -> Phantom:
    """Makes exam number `index` of the phantom population `seed`.

    Args:
      seed: the population, >= 0.
      index: the exam, >= 0.
      size: pixels per side, 32 or more.
      schedule: "paper", "full" or "raw", see `frame_times`.
      disease: force this disease instead of drawing one.
      eye: force "right" or "left".
      visit: 0, or a later visit of the same eye: the same vessels, another injection, camera
        position and set of frame times; lesions may have grown (`phantom.visits`).

    Raises:
      ValueError: negative seed, index or visit, size below 32, unknown schedule, disease or eye.
    """
    if seed < 0 or index < 0 or visit < 0:
        raise ValueError(
            f"seed, index and visit must not be negative, got {seed}, {index} and {visit}."
        )
    if size < 32:
        raise ValueError(f"size is {size}, the smallest phantom is 32 pixels wide.")

    def chance(purpose: Purpose) -> np.random.Generator:
        key: tuple[int, ...] = (seed, index, int(purpose))
        key += (visit,) if visit and purpose in OF_A_VISIT else ()
        return np.random.default_rng(np.random.SeedSequence(key))

    times_s = frame_times(schedule, chance(Purpose.TIMES))
    first = sample_exam(chance(Purpose.EXAM), disease=disease, eye=eye)
    exam = progress(first, visit, chance(Purpose.PROGRESS)) if visit else first
    anatomy = sample_anatomy(chance(Purpose.ANATOMY))
    grid = Grid.over(anatomy, size)
    recipes = draw(first, exam, anatomy, grid, chance(Purpose.LESIONS))
    primitives = [p for recipe in recipes for p in recipe]
    primitives += _slow_flow(exam, primitives, grid)
    trees = grow_trees(chance(Purpose.TREES), anatomy)
    scene = build_scene(chance(Purpose.SCENE), anatomy, grid, trees, primitives)
    frames = light(scene, sample_dye(chance(Purpose.DYE)), times_s)
    pose = sample_pose(chance(Purpose.POSE)) if visit else None
    if pose is not None:
        frames = pose.move(frames)
        anatomy = dataclasses.replace(anatomy, field_center_dd=pose.seen_center(anatomy, size))
    rng = chance(Purpose.CAMERA)
    video = expose(rng, frames, sample_camera(rng), mirror=exam.eye == "left")
    return Phantom(
        video=video,
        times_s=times_s,
        report=write_report(exam, chance(Purpose.REPORT)),
        exam=exam,
        anatomy=anatomy,
        truth=_truth(exam, scene, recipes, float(times_s[-1]), pose),
    )


def _slow_flow(exam: Exam, primitives: Sequence[Primitive], grid: Grid) -> list[Primitive]:
    """Delays all arteries or veins where the record says so and no finding already does."""
    words = {"artery": exam.arterial_filling, "vein": exam.venous_return}
    delayed = {k for p in primitives if isinstance(p, Delay | Slow) for k in p.layers}
    everywhere = np.ones((grid.size, grid.size), np.float32)
    return [
        Delay(everywhere, DELAY_S[word], (kind,))
        for kind, word in words.items()
        if word != "normal" and kind not in delayed
    ]


def _truth(
    exam: Exam,
    scene: Scene,
    recipes: Sequence[Sequence[Primitive]],
    last_s: float,
    pose: Pose | None,
) -> Truth:
    size, mirror = scene.grid.size, exam.eye == "left"
    px_per_dd = scene.grid.px_per_dd * (1.0 if pose is None else pose.zoom)

    def place(xy_dd: tuple[float, float]) -> tuple[float, float]:
        col, row = scene.grid.to_px(np.asarray(xy_dd))
        if pose is not None:
            col, row = pose.matrix(size) @ np.array([col, row, 1.0])
        return (float(size - 1 - col if mirror else col), float(row))

    def turn(array: np.ndarray) -> np.ndarray:
        array = array if pose is None else pose.move_map(array)
        return np.ascontiguousarray(array[:, ::-1]) if mirror else array

    def center(finding: Finding) -> tuple[float, float]:
        # the record knows a nominal disc only
        at_disc = finding.region == "optic disc"
        return scene.anatomy.disc_center_dd if at_disc else finding.center

    artery, vein = scene.artery, scene.vein
    findings = tuple(
        FindingTruth(f.kind, turn(_lesion_mask(recipe, scene, last_s)), place(center(f)), f.onset_s)
        for f, recipe in zip(exam.findings, recipes, strict=True)
    )
    return Truth(
        artery=turn(artery.coverage > COVERED),
        vein=turn(vein.coverage > COVERED),
        artery_s=turn(np.where(artery.coverage > 0, artery.arrival_s, np.nan)),
        vein_s=turn(np.where(vein.coverage > 0, vein.arrival_s, np.nan)),
        disc_px=place(scene.anatomy.disc_center_dd),
        fovea_px=place((0.0, 0.0)),
        disc_radius_px=scene.anatomy.disc_radius_dd * px_per_dd,
        faz_radius_px=scene.anatomy.faz_radius_dd * px_per_dd,
        findings=findings,
    )


def _lesion_mask(recipe: Sequence[Primitive], scene: Scene, last_s: float) -> np.ndarray:
    """(h, w) bool what was drawn; failing that the edited vessels; failing that the territory."""
    drawn: list[Primitive] = [p for p in recipe if not isinstance(p, Delay | Slow | Vessel)]
    edited: list[Primitive] = [p for p in recipe if isinstance(p, Vessel)]
    mask = np.zeros((scene.grid.size, scene.grid.size), bool)
    for primitive in drawn or edited or recipe:
        mask |= _touched(primitive, scene, last_s)
    return mask


def _touched(primitive: Primitive, scene: Scene, last_s: float) -> np.ndarray:
    """(h, w) bool pixels that one primitive changes by more than half of its effect."""
    grid = scene.grid
    if isinstance(primitive, Grow):
        sigma = float(grow_sigma(primitive, np.asarray([last_s]))[0])
        radius = max(1.177 * sigma * grid.px_per_dd, 0.7)  # half height of a Gaussian
        return _disks(np.asarray(primitive.centers).reshape(-1, 2), radius, grid)
    if isinstance(primitive, Vessel):
        vessels = scene.vein if primitive.kind == "vein" else scene.artery
        at = np.stack([grid.x_dd.ravel(), grid.y_dd.ravel()], axis=1)
        inside = primitive.inside(at).reshape(grid.size, grid.size)
        return inside & (vessels.coverage > COVERED)
    return primitive.mask > HALF * float(primitive.mask.max())


def _disks(centers_dd: np.ndarray, radius_px: float, grid: Grid) -> np.ndarray:
    """(h, w) bool union of disks."""
    mask = np.zeros((grid.size, grid.size), bool)
    at = np.arange(grid.size)
    for col, row in grid.to_px(centers_dd):
        cols, rows = window(col, radius_px, grid.size), window(row, radius_px, grid.size)
        mask[rows, cols] |= np.hypot(at[rows, None] - row, at[cols] - col) < radius_px
    return mask
