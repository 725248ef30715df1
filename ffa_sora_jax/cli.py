"""The command line: a table of verbs, no logic.

Each verb lives in a module with `add_arguments(parser)` and `run(args) -> exit code`, imported
only when the verb is called. Options that the parser does not know, such as
`--config.optim.lr=3e-5`, are an error unless the module says ACCEPTS_OVERRIDES; then they are in
`args.overrides`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "prepare": ("tfds_ffa.prepare", "render or ingest clips into a TFDS dataset"),
    "prepare latents": ("ffa_sora_jax.jobs.cache_latents", "store VAE latents of a dataset"),
    "prepare text": ("ffa_sora_jax.jobs.cache_text", "store text embeddings of a dataset"),
    "inspect": ("ffa_sora_jax.jobs.inspect", "show what is in a prepared dataset"),
    "train": ("ffa_sora_jax.jobs.train", "train or resume a model from a config"),
    "status": ("ffa_sora_jax.jobs.status", "show how far a training run is"),
    "sample": ("ffa_sora_jax.jobs.sample", "make videos from one report or a table of reports"),
    "report": ("ffa_sora_jax.jobs.report", "write the reports of videos"),
    "evaluate": ("ffa_sora_jax.jobs.evaluate", "score generated clips beside real ones"),
    "audit": ("ffa_sora_jax.jobs.audit", "find training clips among generated ones"),
    "human cases": ("ffa_sora_jax.jobs.human_cases", "choose and blind cases for readers"),
    "human scores": ("ffa_sora_jax.jobs.human_scores", "how readers scored and agree"),
    "weights": ("ffa_sora_jax.jobs.weights", "list the files that metrics need"),
    "export": ("ffa_sora_jax.jobs.export", "turn a training run into a folder to sample from"),
    "convert": ("ffa_sora_jax.jobs.convert", "convert weights from and to the PyTorch folders"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns its exit code (1 for Ctrl-C, 2 for bad usage or bad input)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(argv)
    except KeyboardInterrupt:  # also while the modules of a verb load, which takes seconds
        sys.stderr.write("ffa-sora: stopped; run the same command again.\n")
        return 1


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        from ffa_sora_jax import __version__

        sys.stdout.write(f"ffa-sora {__version__}\n")
        return 0
    verb = " ".join(argv[:2]) if " ".join(argv[:2]) in VERBS else argv[0]
    if verb not in VERBS:
        from ffa_sora_jax.common.names import unknown_name

        sys.stderr.write(unknown_name("verb", verb, VERBS) + "\n")
        return 2
    module_name, summary = VERBS[verb]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"ffa-sora {verb}", description=summary)
    module.add_arguments(parser)
    args, rest = parser.parse_known_args(argv[len(verb.split()) :])
    if rest and not getattr(module, "ACCEPTS_OVERRIDES", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.overrides = rest
    try:
        return module.run(args)
    except (ValueError, OSError) as error:  # bad input, or a file that cannot be read or written
        sys.stderr.write(f"ffa-sora {verb}: {error}\n")
        return 2


def _overview() -> str:
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items()]
    return "usage: ffa-sora VERB [options]\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
