"""Optimizers and learning-rate schedules by name, from the `optim` section of a config."""

import re
from collections.abc import Mapping
from typing import Any

import optax
from optax.contrib import MuonDimensionNumbers, muon

from ffa_sora_jax.common import names, tree
from ffa_sora_jax.common.types import Params

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("constant", "cosine", "wsd")
DECAYS = ("all", "matrices")


def make_schedule(optim: Mapping[str, Any], total_steps: int) -> optax.Schedule:
    """Learning rate by update number: linear warm-up from 0, then one of `SCHEDULES`.

    "constant" stays at `lr`; "cosine" falls to `final_lr_ratio * lr` at the end; "wsd" (warm up,
    stay, decay) stays until the last `decay_fraction` of the run and then falls linearly.
    """
    name, lr, warmup = optim["schedule"], float(optim["lr"]), int(optim["warmup_steps"])
    if name not in SCHEDULES:
        raise ValueError(names.unknown_name("schedule", name, SCHEDULES))
    if not 0 <= warmup < max(total_steps, 1):
        raise ValueError(
            f"optim.warmup_steps is {warmup}; it must be at least 0 and below "
            f"train.total_steps = {total_steps}."
        )
    after = total_steps - warmup
    final = float(optim["final_lr_ratio"])
    if name == "constant":
        main = optax.constant_schedule(lr)
    elif name == "cosine":
        main = optax.cosine_decay_schedule(lr, after, alpha=final)
    else:
        decay = max(1, round(float(optim["decay_fraction"]) * total_steps))
        main = optax.join_schedules(
            [optax.constant_schedule(lr), optax.linear_schedule(lr, final * lr, decay)],
            [max(0, after - decay)],
        )
    if not warmup:
        return main
    # The first update already moves: (n + 1) / warmup of the full rate.
    ramp = optax.linear_schedule(lr / warmup, lr, max(1, warmup - 1))
    return optax.join_schedules([ramp, main], [warmup])


def make_optimizer(
    optim: Mapping[str, Any], total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The gradient transformation of one player, and its learning rate for the log.

    Raises:
      ValueError: unknown name of an optimizer, schedule or decay rule.
    """
    schedule = make_schedule(optim, total_steps)
    if optim["decay"] not in DECAYS:
        raise ValueError(names.unknown_name("optim.decay", optim["decay"], DECAYS))
    mask = _is_matrix if optim["decay"] == "matrices" else None
    if optim["name"] == "adamw":
        main = optax.adamw(
            schedule, b1=optim["b1"], b2=optim["b2"], eps=optim["eps"],
            weight_decay=optim["weight_decay"], mask=mask,
        )  # fmt: skip
    elif optim["name"] == "muon":
        main = _muon(optim, schedule, mask)
    else:
        raise ValueError(names.unknown_name("optimizer", optim["name"], OPTIMIZERS))
    if optim["clip_norm"] > 0:
        main = optax.chain(optax.clip_by_global_norm(optim["clip_norm"]), main)
    return main, schedule


def _is_matrix(params: Params) -> Params:
    return tree.map_with_path(lambda _, leaf: _rank(leaf) > 1, params)


def _rank(leaf: Any) -> int:
    """Rank of an array; 0 for what optax puts in the place of leaves that it has masked out."""
    return len(getattr(leaf, "shape", ()))


def _muon(optim: Mapping[str, Any], schedule: optax.Schedule, mask: Any) -> Any:
    """Muon for the matrices, Adam for the rest, which decays only where everything does."""
    ratio = float(optim["muon_adam_lr_ratio"])
    decay = float(optim["weight_decay"])
    exclude = [names.compile_pattern("optim.muon_exclude", p) for p in optim["muon_exclude"]]

    def dimension_numbers(params: Params) -> Params:
        return tree.map_with_path(lambda path, leaf: _muon_axes(path, leaf, exclude), params)

    return muon(
        schedule, beta=0.95, eps=optim["eps"], weight_decay=decay, weight_decay_mask=mask,
        adam_weight_decay=decay if mask is None else 0.0, adam_b1=optim["b1"], adam_b2=optim["b2"],
        adam_learning_rate=lambda count: ratio * schedule(count),
        muon_weight_dimension_numbers=dimension_numbers,
        consistent_rms=0.2,  # updates as large as AdamW's, so one lr serves both (2502.16982)
    )  # fmt: skip


def _muon_axes(path: str, leaf: Any, exclude: list[re.Pattern]) -> MuonDimensionNumbers | None:
    """Which axes form the matrix that Muon orthogonalises; None leaves a leaf to Adam (Nesterov).

    Dense kernels are (in, out), stacked ones (layers, in, out); convolution kernels are
    (*window, in, out), one matrix from the whole window to the output.
    """
    rank = _rank(leaf)
    if rank < 2 or not path.endswith("kernel") or any(p.fullmatch(path) for p in exclude):
        return None
    if rank <= 3:
        return MuonDimensionNumbers(reduction_axis=rank - 2, output_axis=rank - 1)
    return MuonDimensionNumbers(reduction_axis=tuple(range(rank - 1)), output_axis=rank - 1)
