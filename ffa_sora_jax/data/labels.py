"""Labels of clips: the diseases that their records name, and the eye."""

from collections.abc import Sequence

import numpy as np

from ffa_sora_jax.common.names import unknown_name
from ffa_sora_jax.common.types import Labels
from ffa_sora_jax.data.prepared import ExampleInfo

EYES = ("right", "left")
SEPARATOR = "; "


def encode(diseases: Sequence[str], eyes: Sequence[str], columns: Sequence[str]) -> Labels | None:
    """Labels of b clips, or None where no diseases are asked for.

    Args:
      diseases: of each clip, as `ExampleInfo.disease` names them.
      eyes: "right" or "left" of each clip, as it is shown.
      columns: names of the diseases, see `Labels.diseases`.

    Raises:
      ValueError: a disease that `columns` does not have, or an eye that is not known.
    """
    if not columns:
        return None
    present = np.zeros((len(diseases), len(columns)), np.float32)
    for row, (disease, eye) in enumerate(zip(diseases, eyes, strict=True)):
        if eye not in EYES:
            raise ValueError(f"The eye is {eye!r}; to be a label it must be one of {EYES}.")
        for name in disease.split(SEPARATOR):
            if name not in columns:
                raise ValueError(unknown_name("disease (data.diseases)", name, columns))
            present[row, columns.index(name)] = 1.0
    return Labels(diseases=present, left=np.array([eye == "left" for eye in eyes], np.float32))


def check(examples: Sequence[ExampleInfo], columns: Sequence[str], where: str) -> None:
    """Refuses a dataset in which any clip cannot be labelled.

    Args:
      examples: the clips of a split.
      columns: as for `encode`.
      where: dataset and split, for messages.

    Raises:
      ValueError: as `encode`; tells the first such clip.
    """
    for number, info in enumerate(examples):
        try:
            encode([info.disease], [info.eye], columns)
        except ValueError as error:
            raise ValueError(f"{where}, clip {number}: {error}") from error
