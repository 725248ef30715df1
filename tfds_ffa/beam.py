"""Apache Beam for archives that outgrow one machine: the same function per exam, on any runner.

pip install 'ffa-sora-jax[beam]'      # in an environment of its own, see docs/curation.md
ffa-sora prepare --dataset hospital_exams/512 ... --beam-runner DirectRunner

Beam runs both halves of a build: every exam into the ledger, and every shard of the dataset through
TFDS. All machines must see the exams and the staging folder under the same paths. Beam kills no
exam that takes too long; `--time-limit` holds for processes only.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Runner:
    """A Beam runner and its options.

    Attributes:
      name: "DirectRunner", "DataflowRunner", ...
      options: "NAME=VALUE" pairs, as the runner's documentation lists them.
    """

    name: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where Beam is not installed or an option is no pair."""
        if importlib.util.find_spec("apache_beam") is None:
            raise ValueError(
                "--beam-runner needs Apache Beam: pip install 'ffa-sora-jax[beam]', best in an "
                "environment of its own, because it asks for older releases of other packages."
            )
        for option in self.options:
            if "=" not in option:
                raise ValueError(f"--beam-options: {option!r} must have the form NAME=VALUE.")

    def pipeline_options(self) -> Any:
        """`PipelineOptions` of the pairs."""
        from apache_beam.options.pipeline_options import PipelineOptions

        return PipelineOptions([f"--{option}" for option in self.options])

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> None:
        """Calls `function` on every task; waits until all are done."""
        import apache_beam

        if not tasks:
            return
        with apache_beam.Pipeline(runner=self.name, options=self.pipeline_options()) as pipeline:
            _ = (
                pipeline
                | "Exams" >> apache_beam.Create(list(tasks))
                | "Spread" >> apache_beam.Reshuffle()  # else one worker may get all of them
                | "Process" >> apache_beam.Map(function)
            )
