"""The batch type of the whole package, and the shape check used at public entry points.

Axes: b batch, t frames, h w space, c channels, l text tokens, d text width.
"""

from typing import Any, TypeAlias

import flax.struct
import jax
import numpy as np

Array: TypeAlias = jax.Array  # of computations; jax takes numpy arrays in its place
AnyArray: TypeAlias = jax.Array | np.ndarray  # where batches come from the host too
Params: TypeAlias = dict[str, Any]


class Text(flax.struct.PyTreeNode):
    """Tokenised reports, or their stored embeddings.

    Attributes:
      ids: (b, l) int32 token ids, 0 where padded.
      mask: (b, l) bool, True on real tokens (end of sequence included).
      embedding: (b, l, d) float32 output of a frozen text encoder, or None when the encoder is
        trained together with the model.
    """

    ids: AnyArray
    mask: AnyArray
    embedding: AnyArray | None = None


class Labels(flax.struct.PyTreeNode):
    """What clips show, as their records say.

    Attributes:
      diseases: (b, k) float32, 1 where present; `config.data.diseases` names the k columns.
      left: (b,) float32, 1 for left eyes.
    """

    diseases: AnyArray
    left: AnyArray


class Clip(flax.struct.PyTreeNode):
    """One batch of angiograms; all fields share the leading axis b.

    Attributes:
      video: (b, t, h, w, c) uint8 on the host, float32 in [-1, 1] on the device. None when only
        cached latents are fed.
      frame_mask: (b, t) bool, False on interpolated or padded frames.
      text: tokenised reports, or None where none are needed.
      latent: (b, t', h', w', 2 l) float32 posterior moments (mean, then log-variance) of a frozen
        VAE, or None.
      fundus: (b, h, w, 3) registered colour photograph, or None.
      exam: (b,) int64 salted hash of the exam; never an identifier.
      times_s: (b, t) float32 seconds of the frames, or None where they are not known or needed.
      labels: diseases and eye, or None where none are needed.
    """

    video: AnyArray | None
    frame_mask: AnyArray | None = None
    text: Text | None = None
    latent: AnyArray | None = None
    fundus: AnyArray | None = None
    exam: AnyArray | None = None
    times_s: AnyArray | None = None
    labels: Labels | None = None


def check_shape(x: AnyArray, axes: str, name: str = "array", **sizes: int) -> dict[str, int]:
    """Checks the rank of `x`, and the sizes of named axes.

    Args:
      x: array to check.
      axes: axis names separated by blanks, such as "b t h w c".
      name: how the error message calls the array.
      **sizes: required size by axis name.

    Returns:
      The size of every named axis.

    Raises:
      ValueError: the rank or a size differs; the message shows the expected and the given shape.
    """
    names = axes.split()
    expected = ", ".join(f"{n}={sizes[n]}" if n in sizes else n for n in names)
    given = tuple(x.shape)
    if len(given) != len(names):
        raise ValueError(f"{name} has shape {given}; expected ({expected}), {len(names)} axes.")
    found = dict(zip(names, given, strict=True))
    wrong = [n for n, size in sizes.items() if found[n] != size]
    if wrong:
        raise ValueError(f"{name} has shape {given}; expected ({expected}). Wrong: {wrong}.")
    return found
