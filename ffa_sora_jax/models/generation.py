"""Writing text token by token: greedy, beam search and sampling, each one compiled loop.

A `Step` is any function that takes the tokens at a position and gives the logits of the next ones;
what it has to remember it keeps in a cache, whose arrays (layers, b, k, ...) follow the beams:

    step(cache, ids (b, k), position ()) -> logits (b, k, v), cache

Axes: b batch, k beams (or samples) of one clip, l tokens, v vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ffa_sora_jax.common.types import Array

Step: TypeAlias = Callable[[Any, Array, Array], tuple[Array, Any]]

_NEVER = -1e9  # log-probability of what must not be chosen; finite, so that sums stay ordered


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens with a meaning of their own.

    Attributes:
      bos: before every text, never written by the model.
      eos: behind every text.
      pad: behind that.
    """

    bos: int
    eos: int
    pad: int


def beam_search(
    step: Step, cache: Any, tokens: Tokens, *, batch: int, beams: int, length: int,
    length_penalty: float = 1.0, early_stopping: bool = True,
) -> tuple[Array, Array]:  # fmt: skip
    """The likeliest texts that a beam finds; one beam is greedy.

    In every step the `2 * beams` best continuations of a clip's beams are looked at. Those that end
    the text, by its last token or by its length, are put aside if they are among the best `beams`;
    the best `beams` of the others go on, and of those put aside the best `beams` are kept.

    Args:
      step: see the module.
      cache: of nothing written yet, with the beams' axis.
      tokens: tokens with a meaning.
      batch: clips.
      beams: beams per clip.
      length: longest text, end of sequence included.
      length_penalty: the score is the sum of the log-probabilities over the number of tokens to
        this power: 0 favours short texts, 1 takes the mean.
      early_stopping: a clip is finished as soon as `beams` texts are put aside. Otherwise it also
        has to be unlikely that a better one follows: the best text that goes on, scored at its
        present length, is not above the worst one put aside.

    Returns:
      ids (batch, beams, length) int32, best first, `bos` left out, padded behind their end; and
      their scores (batch, beams) float32.
    """
    shape = (batch, beams)
    first = jnp.where(jnp.arange(beams) == 0, 0.0, _NEVER)  # all beams begin alike: keep one
    state = {
        "position": jnp.zeros((), jnp.int32),
        "ids": jnp.full((*shape, length), tokens.pad, jnp.int32),
        "last": jnp.full(shape, tokens.bos, jnp.int32),
        "total": jnp.broadcast_to(first, shape),
        "done_ids": jnp.full((*shape, length), tokens.pad, jnp.int32),
        "done_score": jnp.full(shape, 2 * _NEVER),
        "finished": jnp.zeros(batch, bool),
        "cache": cache,
    }

    def goes_on(state: dict[str, Any]) -> Array:
        return (state["position"] < length) & ~state["finished"].all()

    def body(state: dict[str, Any]) -> dict[str, Any]:
        return _advance(step, state, tokens, length_penalty, early_stopping)

    state = jax.lax.while_loop(goes_on, body, state)
    return state["done_ids"], state["done_score"]


def sample(
    step: Step, cache: Any, tokens: Tokens, rng: jax.Array, *, batch: int, samples: int,
    length: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
) -> tuple[Array, Array]:  # fmt: skip
    """Texts drawn from the model.

    Args:
      step, cache, tokens, batch, length: see `beam_search`.
      rng: one key, or (batch,) keys, so that a clip's text does not depend on its neighbours.
      samples: texts per clip.
      temperature: divides the logits; below 1 is more careful.
      top_k: draw from this many likeliest tokens only; 0 for all.
      top_p: draw from the likeliest tokens that together have this probability.

    Returns:
      ids (batch, samples, length) int32, padded behind their end, and the log-probabilities
      (batch, samples) of the texts under the narrowed distribution they were drawn from.
    """
    keys = rng if rng.ndim else jax.random.split(rng, batch)
    state = {
        "position": jnp.zeros((), jnp.int32),
        "ids": jnp.full((batch, samples, length), tokens.pad, jnp.int32),
        "last": jnp.full((batch, samples), tokens.bos, jnp.int32),
        "total": jnp.zeros((batch, samples)),
        "ended": jnp.zeros((batch, samples), bool),
        "cache": cache,
    }

    def goes_on(state: dict[str, Any]) -> Array:
        return (state["position"] < length) & ~state["ended"].all()

    def body(state: dict[str, Any]) -> dict[str, Any]:
        position, ended = state["position"], state["ended"]
        logits, cache = step(state["cache"], state["last"], position)
        logits = logits / temperature
        log_p = jax.nn.log_softmax(narrow(logits, top_k, top_p))
        here = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
        drawn = jax.vmap(jax.random.categorical)(here, log_p).astype(jnp.int32)  # (b, k)
        gained = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
        written = jnp.where(ended, tokens.pad, drawn)
        return {
            "position": position + 1,
            "ids": state["ids"].at[:, :, position].set(written),
            "last": written,
            "total": state["total"] + jnp.where(ended, 0.0, gained),
            "ended": ended | (drawn == tokens.eos),
            "cache": cache,
        }

    state = jax.lax.while_loop(goes_on, body, state)
    return state["ids"], state["total"]


def narrow(logits: Array, top_k: int = 0, top_p: float = 1.0) -> Array:
    """Takes unlikely tokens out of (..., v) logits; the likeliest one always stays.

    Args:
      logits: float32.
      top_k: tokens to keep; 0 for all.
      top_p: keep the likeliest tokens up to the one with which their probability reaches this.
    """
    if top_k:
        kth = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][..., -1:]
        logits = jnp.where(logits < kth, _NEVER, logits)
    if top_p < 1.0:
        descending = -jnp.sort(-logits, axis=-1)
        p = jax.nn.softmax(descending, axis=-1)
        before = jnp.cumsum(p, axis=-1) - p  # probability of all that is likelier
        last = jnp.where(before < top_p, descending, jnp.inf).min(-1, keepdims=True)
        logits = jnp.where(logits < last, _NEVER, logits)
    return logits


def _advance(
    step: Step, state: dict[str, Any], tokens: Tokens, penalty: float, early_stopping: bool
) -> dict[str, Any]:
    """One step of a beam search."""
    position, beams = state["position"], state["last"].shape[1]
    logits, cache = step(state["cache"], state["last"], position)
    vocabulary = logits.shape[-1]
    log_p = jax.nn.log_softmax(logits)
    total = state["total"][..., None] + log_p  # (b, k, v)
    best, place = jax.lax.top_k(total.reshape(total.shape[0], -1), min(2 * beams, total[0].size))
    parent, token = place // vocabulary, (place % vocabulary).astype(jnp.int32)  # (b, 2 k)
    ids = jnp.take_along_axis(state["ids"], parent[..., None], axis=1)
    ids = ids.at[:, :, position].set(token)
    ends = (token == tokens.eos) | (position == state["ids"].shape[2] - 1)

    among_best = jnp.arange(best.shape[1]) < beams
    may_end = ends & among_best & ~state["finished"][:, None] & (best > _NEVER / 2)
    score = jnp.where(may_end, _score(best, position + 1, penalty), 2 * _NEVER)
    done_score, order = jax.lax.top_k(jnp.concatenate([state["done_score"], score], axis=1), beams)
    done_ids = jnp.concatenate([state["done_ids"], ids], axis=1)
    done_ids = jnp.take_along_axis(done_ids, order[..., None], axis=1)

    live, kept = jax.lax.top_k(jnp.where(ends, 2 * _NEVER, best), beams)
    parent = jnp.take_along_axis(parent, kept, axis=1)  # (b, k)
    finished = done_score[:, -1] > _NEVER / 2  # as many texts as beams are put aside
    if not early_stopping:
        finished &= _score(live[:, 0], position + 1, penalty) <= done_score[:, -1]
    return {
        "position": position + 1,
        "ids": jnp.take_along_axis(ids, kept[..., None], axis=1),
        "last": jnp.take_along_axis(token, kept, axis=1),
        "total": jnp.maximum(live, 2 * _NEVER),
        "done_ids": done_ids,
        "done_score": done_score,
        "finished": state["finished"] | finished,
        "cache": _follow(cache, parent),
    }


def _follow(cache: Any, parent: Array) -> Any:
    """The cache of the beams that go on, (b, k) of those before."""
    rows = jnp.arange(parent.shape[0])[:, None]
    return jax.tree.map(lambda leaf: leaf[:, rows, parent], cache)


def _score(total: Array, tokens: Array, penalty: float) -> Array:
    return total / jnp.maximum(tokens, 1).astype(jnp.float32) ** penalty
