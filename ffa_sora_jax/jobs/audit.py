"""`ffa-sora audit`: do generated clips give away who was in the training data?

    ffa-sora audit --generated out --train phantom/64 --holdout phantom/64 --data-dir data \\
        --output audit --release shareable

Writes `audit.json` and `audit.html`; `--release` copies the clips that were found clean, and only
those, into a new folder (none if the controls failed or most clips cannot be judged). The job may
be killed and started again with the same command. While it works it keeps small vessel maps of real
eyes in OUTPUT/work, which are patient data; they are removed when the report is written, unless
`--keep-work`.

Exit code: 0 no copies found; 1 stopped (Ctrl-C, SIGTERM, disk full); 2 bad usage or input; 3 no
copies found, but some generated clips match by accident or cannot be read or judged; 4 copies
found, memory suspected, or inconclusive.
"""

import argparse
import functools
import hashlib
import itertools
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffa_sora_jax import __version__
from ffa_sora_jax.common import files, interrupts
from ffa_sora_jax.common.places import evenly
from ffa_sora_jax.common.progress import Progress
from ffa_sora_jax.jobs import clips
from ffa_sora_jax.jobs.manifest import Manifest, only_one
from ffa_sora_jax.privacy import audit, detect, membership, page, release, traces, verdict
from ffa_sora_jax.privacy.audit import Evidence, Options, Subject
from ffa_sora_jax.privacy.detect import Score, Scores
from ffa_sora_jax.privacy.traces import Trace

OK, SOME_FAILED, FOUND = 0, 3, 4
REPORT, PAGE, WORK = "audit.json", "audit.html", "work"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `audit`."""
    parser.add_argument(
        "--generated", required=True, help="folder of generated clips, such as of `ffa-sora sample`"
    )
    parser.add_argument(
        "--train", required=True, help="what the model was trained on: a dataset, or a folder"
    )
    parser.add_argument(
        "--holdout", required=True, help="clips of other patients: a dataset, or a folder"
    )
    parser.add_argument("--train-split", default="train", help="of a dataset (default: train)")
    parser.add_argument("--holdout-split", default="test", help="of a dataset (default: test)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--output", type=Path, required=True, help="folder for the report")
    parser.add_argument("--release", type=Path, help="new folder for copies of the clean clips")
    parser.add_argument(
        "--model", type=Path, metavar="DIR",
        help="pipeline folder (`ffa-sora export`): examine whether the model itself gives away its "
        "training clips",
    )  # fmt: skip
    parser.add_argument(
        "--model-clips", type=int, default=100, metavar="N",
        help="training and as many hold-out clips shown to the model (default: 100)",
    )  # fmt: skip
    parser.add_argument(
        "--false-positive-rate", type=float, default=audit.RATE, metavar="RATE",
        help=f"share of clean clips that may be called a match (default: {audit.RATE})",
    )  # fmt: skip
    parser.add_argument(
        "--controls", type=int, default=audit.CONTROLS, metavar="N",
        help=f"copies planted to see whether they are found (default: {audit.CONTROLS})",
    )  # fmt: skip
    parser.add_argument(
        "--features", type=Path, metavar="FILE.npz",
        help="features of another network: arrays generated, train and holdout, (n, d) each, in "
        "the order of the clips",
    )  # fmt: skip
    parser.add_argument(
        "--keep-work", action="store_true", help="keep the maps of real eyes for further audits"
    )


def run(args: argparse.Namespace) -> int:
    """Audits; see the module for the exit codes."""
    return interrupts.resumable(lambda: _run(args), "What was compared is kept")


def _run(args: argparse.Namespace) -> int:
    options = _options(args)
    files.check_folder(args.output, "--output")
    sets = _open(args)
    if args.release is not None:
        release.check_target(_folder(args.generated), args.release)
    features = None if args.features is None else _read_features(args.features, sets)
    with only_one(args.output), interrupts.stop_on_oserror():
        report = _audit(args, options, sets, features)
        _write(args, report, sets["generated"].items)
    return _tell(args, report)


def _open(args: argparse.Namespace) -> dict[str, clips.ClipSet]:
    given = {
        "generated": (args.generated, "test"),
        "train": (args.train, args.train_split),
        "holdout": (args.holdout, args.holdout_split),
    }
    sets = {
        name: clips.open_clips(path, option=f"--{name}", split=split, data_dir=args.data_dir)
        for name, (path, split) in given.items()
    }
    for name in ("train", "holdout"):
        if failed := sets[name].failed:
            clip, reason = next(iter(failed.items()))
            raise ValueError(
                f"{len(failed)} clips of --{name} would not be compared, such as {clip}: {reason} "
                "An audit must see all of them."
            )
    for name, one in sets.items():
        for other, two in sets.items():
            if name < other and one.fingerprint == two.fingerprint:
                raise ValueError(f"--{name} and --{other} are the same clips; give different ones.")
    return sets


def _audit(
    args: argparse.Namespace,
    options: Options,
    sets: dict[str, clips.ClipSet],
    features: dict[str, tuple[np.ndarray, ...]] | None,
) -> dict[str, Any]:
    """The report, from the work folder as far as that goes."""
    subjects = {name: [_subject(item) for item in one.items] for name, one in sets.items()}
    memory = DiskMemory(args.output / WORK)
    sides = subjects["generated"], subjects["train"], subjects["holdout"]
    progress = Progress("comparisons", audit.num_steps(*sides, options))
    evidence = audit.gather(*sides, options, memory, progress.advance)
    attack, model = _attack(args, sets, evidence, memory)
    aligned = None if features is None else _aligned(features, subjects, evidence)
    report = verdict.conclude(evidence, options, attack, aligned)
    for sample in report["samples"]:  # the report is passed on: no path of this machine
        sample["reason"] = sample["reason"].replace(f"{sets['generated'].where}/", "")
    for name, reason in sets["generated"].failed.items():
        report["samples"].append(_missing(name, reason))
        report["counts"]["generated"] += 1
        report["counts"]["unreadable"] += 1
    report["about"] = {
        "program": f"ffa-sora-jax {__version__}, versions of traces and scores "
        f"{traces.VERSION}, {detect.VERSION}",
        **{f"{name} clips": one.fingerprint for name, one in sets.items()},
        "false-positive rate": options.rate,
        "planted copies": report["controls"]["planted_copies"]["count"],
        "model": model or "not given",
    }
    return report


def _write(
    args: argparse.Namespace, report: dict[str, Any], generated: Sequence[clips.ClipItem]
) -> None:
    files.write_json(args.output / REPORT, report)
    files.write_text(args.output / PAGE, page.render(report))
    if args.release is not None and report["clears"]:
        source = _folder(args.generated)
        clean = [s["name"] for s in report["samples"] if s["verdict"] == "clean"]
        digest = files.sha256(args.output / REPORT)
        about = {"audit_sha256": digest, "audit_verdict": report["verdict"]}
        digests = {item.name: item.digest for item in generated}
        examined = {name: _files_of(source, name, digests[name]) for name in clean}
        release.release(examined, source, args.release, about)
    if not args.keep_work:
        shutil.rmtree(args.output / WORK, ignore_errors=True)


def _tell(args: argparse.Namespace, report: dict[str, Any]) -> int:
    counts = report["counts"]
    lines = [f"verdict: {report['verdict']}", *report["reasons"]]
    lines.append(f"model: {report['model']['verdict']}. {report['model']['reason']}")
    lines += [f"match: {s['name']}" for s in report["samples"] if s["verdict"] == "match"]
    lines += [
        f"{s['verdict']}: {s['name']}: {s['reason']}"
        for s in report["samples"]
        if s["verdict"] in ("undecided", "unreadable")
    ]
    lines.append(f"report: {args.output / PAGE}, {args.output / REPORT}")
    if args.release is not None and not report["clears"]:
        lines.append("nothing was released: this audit cannot clear clips, see the reasons above.")
    elif args.release is not None:
        lines.append(f"{counts['clean']} of {counts['generated']} clips are in {args.release}.")
    sys.stdout.write("\n".join(lines) + "\n")
    if report["verdict"] != verdict.CLEAN:
        return FOUND
    return SOME_FAILED if counts["clean"] < counts["generated"] else OK


def _options(args: argparse.Namespace) -> Options:
    if not 0 < args.false_positive_rate < 1:
        raise ValueError(
            f"--false-positive-rate is {args.false_positive_rate}; it must lie between 0 and 1."
        )
    for name in ("controls", "model_clips"):
        if getattr(args, name) < 2:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is {getattr(args, name)}; it must be 2 or more.")
    return Options(rate=args.false_positive_rate, controls=args.controls)


def _subject(item: clips.ClipItem) -> Subject:
    eye, patient = item.facts.get("eye"), (item.patient or "").strip() or None
    return Subject(
        item.name, item.digest, functools.partial(_grey, item), item.report, patient,
        eye if eye in ("right", "left") else "",
    )  # fmt: skip


def _grey(item: clips.ClipItem) -> np.ndarray:
    """(t, h, w) uint8."""
    return np.ascontiguousarray(item.read()[..., 0])


def _missing(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "verdict": "unreadable", "matched_by": [], "chance": 1.0,
            "reason": reason, "detectors": {}}  # fmt: skip


class DiskMemory:
    """Traces as files and scores as lines of a manifest, so that a killed audit goes on."""

    def __init__(self, folder: Path):
        self._folder = folder / "traces"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._manifest = Manifest(folder)

    def trace(self, key: str, make: Callable[[], Trace]) -> Trace:
        """The trace of a clip."""
        path = self._folder / f"{key}.npz"
        try:
            return traces.load(path)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            path.unlink()  # damaged: made again
        made = make()
        traces.save(path, made)
        return made

    def scores(self, key: str, make: Callable[[], Scores]) -> Scores:
        """The scores of a clip."""
        record = self._manifest.get(key)
        if record is None:
            made = {name: [score.value, score.index] for name, score in make().items()}
            self._manifest.add_done(key, key, [], scores=made)
            record = self._manifest.get(key) or {}
        return {name: Score(value, index) for name, (value, index) in record["scores"].items()}

    def values(self, key: str, make: Callable[[], Sequence[float]]) -> list[float]:
        """Numbers of a clip, such as its losses."""
        record = self._manifest.get(key)
        if record is None:
            made = [float(value) for value in make()]
            self._manifest.add_done(key, key, [], values=made)
            return made
        return list(record["values"])


def _attack(
    args: argparse.Namespace, sets: dict[str, clips.ClipSet], evidence: Evidence, memory: DiskMemory
) -> tuple[membership.Attack | None, str]:
    """Membership inference on the model, and the model's fingerprint."""
    if args.model is None:
        return None, ""
    from ffa_sora_jax.pipelines.text_to_video import TextToVideo
    from ffa_sora_jax.privacy.denoising import denoising_loss

    pipeline = TextToVideo.from_pretrained(args.model)
    loss = denoising_loss(pipeline)
    found, groups = [], []
    for name, side in (("train", evidence.train), ("holdout", evidence.holdout)):
        items = {item.name: item for item in sets[name].items}
        usable = [(items[s.name], s.group) for s, _ in side if (s.report or "").strip()]
        if len(usable) < 2:
            raise ValueError(f"--model needs clips with reports; --{name} has {len(usable)}.")
        places = evenly(len(usable), min(args.model_clips, len(usable)))
        chosen = [usable[i] for i in places]
        progress = Progress(f"losses of {name}", len(chosen))
        rows = []
        for item, _ in chosen:
            key = hashlib.sha256(f"{pipeline.fingerprint} {item.digest}".encode()).hexdigest()[:32]
            rows.append(memory.values(key, functools.partial(_losses, loss, item)))
            progress.advance()
        found.append(np.array(rows))
        groups.append([group for _, group in chosen])
    attack = membership.infer(found[0], found[1], groups=(groups[0], groups[1]))
    return attack, pipeline.fingerprint


def _losses(loss: Any, item: clips.ClipItem) -> Sequence[float]:
    exam = (item.read(), item.report)
    return [loss(exam, level) for level in membership.LEVELS]


# --- Features of another network ---


def _read_features(path: Path, sets: dict[str, clips.ClipSet]) -> dict[str, tuple[np.ndarray, ...]]:
    try:
        with np.load(path) as stored:
            arrays = {name: np.asarray(stored[name], np.float64) for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"--features {path} cannot be read as .npz: {error}") from error
    for name, one in sets.items():
        if name not in arrays:
            raise ValueError(f"--features {path} lacks the array {name!r}.")
        shape = arrays[name].shape
        if len(shape) != 2 or shape[0] != len(one.items) or not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"--features: {name} has shape {shape}; expected ({len(one.items)}, d), finite."
            )
    return {path.stem: tuple(arrays[name] for name in ("generated", "train", "holdout"))}


def _aligned(
    features: dict[str, tuple[np.ndarray, ...]],
    subjects: dict[str, list[Subject]],
    evidence: Evidence,
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The rows of the clips that the evidence holds."""
    rows = []
    for name in ("generated", "train", "holdout"):
        place = {subject.name: i for i, subject in enumerate(subjects[name])}
        rows.append([place[subject.name] for subject, _ in getattr(evidence, name)])
    return {
        name: (arrays[0][rows[0]], arrays[1][rows[1]], arrays[2][rows[2]])
        for name, arrays in features.items()
    }


# --- Files of generated clips ---


def _folder(given: str) -> Path:
    path = Path(given)
    folder = path.parent if path.is_file() else path
    if not folder.is_dir() or (folder / "dataset_info.json").exists():
        raise ValueError("--release copies files, so --generated must be a folder of videos.")
    return folder


def _files_of(folder: Path, name: str, digest: str) -> list[Path]:
    """The files that were examined as clip `name`, its sidecar and its sheet, and no others.

    Raises:
      ValueError: the video is not the one that was examined.
    """
    same = [path for path in sorted(folder.iterdir()) if _named(path, name)]
    found = [p for p in same if (one := clips.single(p)) is not None and one.digest == digest]
    if not found:
        raise ValueError(
            f"Clip {name} has changed since it was examined, or its folder holds videos beside "
            "frames; correct that and run the audit again."
        )
    beside = (folder / f"{name}.json", folder / f"{name}.sheet.png")
    pictures = [sorted(path.glob("*.png")) if path.is_dir() else [path] for path in found]
    return [*itertools.chain(*pictures), *filter(Path.is_file, beside)]


def _named(path: Path, name: str) -> bool:
    return name == (path.name if path.is_dir() else path.stem)
