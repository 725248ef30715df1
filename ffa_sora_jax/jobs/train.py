"""`ffa-sora train`: trains or resumes a model from a config file.

    ffa-sora train --config configs/t2v_phantom.py --workdir runs/t2v --config.optim.lr=3e-5

The same command resumes. Exit codes: 0 finished; 1 the loss was not finite or a checkpoint could
not be written; 2 bad input; 75 stopped early after saving (a signal or `train.max_seconds`), which
launchers answer by repeating the command.
"""

import argparse
import importlib
import importlib.metadata
import logging as std_logging
import platform
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections as mlc
from absl import logging

from ffa_sora_jax.common import mesh as mesh_lib
from ffa_sora_jax.common import tree
from ffa_sora_jax.common.checkpoint import MANIFEST
from ffa_sora_jax.data.config import DataConfig
from ffa_sora_jax.tasks import base
from ffa_sora_jax.train import config as config_lib
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.writer import METRICS_FILE

EXIT_FAILED = 1
EXIT_STOPPED = 75  # EX_TEMPFAIL: try again
ACCEPTS_OVERRIDES = True  # the command line hands over unknown options in `args.overrides`
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ffa-sora-jax")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--config", required=True, help="config file, path.py or path.py:argument")
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    parser.add_argument(
        "--distributed", action="store_true",
        help="join the other processes of a pod or cluster (found by jax, or by the options below)",
    )  # fmt: skip
    parser.add_argument("--coordinator", help="host:port of process 0, where jax cannot find it")
    parser.add_argument("--num-processes", type=int, help="with --coordinator")
    parser.add_argument("--process-id", type=int, help="with --coordinator")
    parser.add_argument("--quiet", action="store_true", help="no parameter and sharding tables")
    parser.epilog = "Any --config.section.key=value overrides a leaf of the config."


def run(args: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    config = config_lib.load(args.config, getattr(args, "overrides", ()))
    _start_logging()
    if args.distributed or args.coordinator:
        jax.distributed.initialize(args.coordinator, args.num_processes, args.process_id)
    _name_text_encoder(config)
    _check_workdir(config, args.workdir)
    task = base.create(config)
    prepared = loop.prepare(task, config)
    source, eval_source = _open_data(config)
    task.check_data(source.latents)
    _describe(prepared, quiet=args.quiet)  # after what may be refused, so that errors stand alone
    try:
        with StopSignals() as stop:
            state = loop.train(
                task, config, args.workdir, source, eval_source, mesh=prepared.mesh, stop=stop
            )
    except FileNotFoundError:
        raise
    except (FloatingPointError, OSError) as error:
        logging.error("%s", error)
        return EXIT_FAILED
    step, total = int(state.step), config.train.total_steps
    logging.info("Results are in %s: checkpoints, %s, pictures.", args.workdir, METRICS_FILE)
    if step < total:
        logging.info("Stopped at step %d of %d; the same command resumes.", step, total)
        return EXIT_STOPPED
    return 0


class StopSignals:
    """While entered: True once SIGTERM or SIGINT has come; a second SIGINT ends the process."""

    def __init__(self) -> None:
        self._name = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Catches the signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Puts back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether to save and stop."""
        return bool(self._name)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        self._name = signal.Signals(number).name
        logging.warning("%s: saving after this step, then stopping.", self._name)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _open_data(config: Mapping[str, Any]) -> tuple[Any, Any]:
    pipeline = importlib.import_module("ffa_sora_jax.data.pipeline")
    data = DataConfig.read(config["data"])
    place = dict(process_index=jax.process_index(), process_count=jax.process_count())
    source = pipeline.make_source(
        config["data"], data.split, config["train"]["batch_size"], config["seed"],
        **place,
    )  # fmt: skip
    eval_source = pipeline.make_source(
        config["data"], data.eval_split, config["eval"]["batch_size"], config["seed"],
        shuffle=False, with_video=True, **place,
    )  # fmt: skip
    return source, eval_source


def _name_text_encoder(config: mlc.ConfigDict) -> None:
    """Notes which encoder made the stored embeddings, so that a resumed run refuses another's."""
    data = DataConfig.read(config["data"])
    if data.text_embeddings and not data.text_encoder:
        cache = importlib.import_module("ffa_sora_jax.data.text_cache").TextCache
        with config.unlocked():
            config.data.text_encoder = cache.open(Path(data.text_embeddings)).encoder


def _check_workdir(config: Mapping[str, Any], workdir: Path) -> None:
    """Refuses a folder of another run before anything slow happens."""
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir {workdir} is a file; give a folder, new or of this run.")
    stored = workdir / loop.CONFIG_FILE
    if stored.exists() and any((workdir / loop.CHECKPOINTS).glob(f"[0-9]*/{MANIFEST}")):
        config_lib.check_resumable(config, config_lib.read(stored), str(workdir))


def _describe(prepared: loop.Run, *, quiet: bool) -> None:
    """Logs what every run should tell first."""
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    logging.info("Python %s, %s", platform.python_version(), ", ".join(versions))
    devices = jax.devices()
    logging.info(
        "%d device(s) of kind %s, %d process(es)",
        len(devices), devices[0].device_kind, jax.process_count(),
    )  # fmt: skip
    logging.info("Mesh: %s", dict(prepared.mesh.shape))
    for path, value in tree.flatten(config_lib.to_json(prepared.config)).items():
        logging.info("config.%s = %r", path.replace("/", "."), value)
    params = prepared.abstract.params
    count = sum(leaf.size for leaf in tree.flatten(params).values())
    logging.info("%s trainable parameters", f"{count:,}")
    if not quiet:
        table = mesh_lib.sharding_table(params, prepared.shardings.params)
        logging.info("Parameters, and where they live:\n%s", table)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _start_logging() -> None:
    """Our own messages to standard error, and only the warnings of libraries."""
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    handler = logging.get_absl_handler()
    handler.python_handler.stream = sys.stderr
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = str(Path(__file__).parents[1])
    handler.addFilter(
        lambda record: record.levelno >= std_logging.WARNING or record.pathname.startswith(ours)
    )
