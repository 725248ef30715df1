"""Search and sampling against every text that there is, on a vocabulary of four."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.models import generation
from ffa_sora_jax.models.generation import Tokens
from tests.tolerances import TOL

PAD, EOS, VOCABULARY, LENGTH = 0, 1, 4, 4
TOKENS = Tokens(bos=3, eos=EOS, pad=PAD)
BATCH = 2
# A model that remembers: the next logits depend on the sum of all tokens so far and the position.
TABLE = 2.0 * np.random.default_rng(5).standard_normal((BATCH, 16, LENGTH, VOCABULARY))


def step(cache, ids, position):
    """The cache is one array (1, b, k) of sums; only with it is the answer right."""
    (total,) = cache
    total = total + ids[None]
    rows = jnp.arange(ids.shape[0])[:, None]
    logits = jnp.asarray(TABLE, jnp.float32)[rows, total[0] % 16, position]
    return logits, (total,)


def start(beams, batch=BATCH):
    return (jnp.zeros((1, batch, beams), jnp.int32),)


def texts():
    """Every text: up to its end, or cut at the full length."""
    for length in range(1, LENGTH + 1):
        for body in itertools.product([0, 2, 3], repeat=length - 1):
            yield (*body, EOS)
    yield from itertools.product([0, 2, 3], repeat=LENGTH)


def log_probability(row, text):
    total, last, sum_ = 0.0, TOKENS.bos, 0
    for position, token in enumerate(text):
        sum_ += last
        logits = TABLE[row, sum_ % 16, position]
        total += logits[token] - np.log(np.exp(logits).sum())
        last = token
    return total


def brute_force(row, penalty):
    """All texts with their scores, best first."""
    scored = [(log_probability(row, text) / len(text) ** penalty, text) for text in texts()]
    return sorted(scored, reverse=True)


def padded(text):
    return [*text, *[PAD] * (LENGTH - len(text))]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_texts_of_all(penalty):
    beams = 128  # more than there are texts, so that nothing is dropped
    ids, scores = jax.jit(
        lambda: generation.beam_search(
            step, start(beams), TOKENS, batch=BATCH, beams=beams, length=LENGTH,
            length_penalty=penalty,
        )
    )()  # fmt: skip
    for row in range(BATCH):
        expected = brute_force(row, penalty)
        assert len(expected) < beams
        np.testing.assert_allclose(
            scores[row, : len(expected)], [s for s, _ in expected], atol=TOL["unit"]
        )
        assert ids[row, :10].tolist() == [padded(text) for _, text in expected[:10]]
        assert (scores[row, len(expected) :] < -1e8).all()


def test_one_beam_is_greedy():
    ids, scores = generation.beam_search(
        step, start(1), TOKENS, batch=BATCH, beams=1, length=LENGTH
    )
    for row in range(BATCH):
        text, last, sum_ = [], TOKENS.bos, 0
        while len(text) < LENGTH and last != EOS:
            sum_ += last
            last = int(TABLE[row, sum_ % 16, len(text)].argmax())
            text.append(last)
        assert ids[row, 0].tolist() == padded(text)
        assert scores[row, 0] == pytest.approx(log_probability(row, text) / len(text), abs=1e-5)


def test_a_narrow_beam_returns_true_scores_in_order():
    ids, scores = generation.beam_search(
        step, start(3), TOKENS, batch=BATCH, beams=3, length=LENGTH, length_penalty=0.5
    )
    known = [dict((text, score) for score, text in brute_force(row, 0.5)) for row in range(BATCH)]
    for row in range(BATCH):
        assert (np.diff(scores[row]) <= 0).all()
        for text, score in zip(np.asarray(ids[row]).tolist(), scores[row], strict=True):
            end = text.index(EOS) + 1 if EOS in text else LENGTH
            assert known[row][tuple(text[:end])] == pytest.approx(float(score), abs=1e-5)
        assert len({tuple(text) for text in np.asarray(ids[row]).tolist()}) == 3


def test_without_early_stopping_a_better_text_is_waited_for():
    """Two texts have ended after two tokens; one that goes on is likelier per token."""
    never = 1e-9
    by_position = np.log([[never, 0.2, 0.7, 0.1], [never, 0.25, 0.75, never]])
    by_position = np.vstack([by_position, np.log([[never, 1.0, never, never]] * 2)])

    def by_place(cache, ids, position):
        row = jnp.asarray(by_position, jnp.float32)[position]
        return jnp.broadcast_to(row, (*ids.shape, VOCABULARY)), cache

    def search(early):
        ids, scores = generation.beam_search(
            by_place, start(2, 1), TOKENS, batch=1, beams=2, length=LENGTH, early_stopping=early
        )
        return ids[0].tolist(), scores[0].tolist()

    ids, scores = search(True)
    assert ids == [padded([2, EOS]), padded([EOS])]
    assert scores == pytest.approx([np.log(0.175) / 2, np.log(0.2)], abs=1e-5)
    ids, scores = search(False)
    assert ids == [padded([2, 2, EOS]), padded([3, 2, EOS])]
    assert scores == pytest.approx([np.log(0.525) / 3, np.log(0.075) / 3], abs=1e-5)


def test_samples_have_the_frequencies_of_the_model():
    count = 4000
    ids, total = jax.jit(
        lambda key: generation.sample(
            step, start(count), TOKENS, key, batch=BATCH, samples=count, length=LENGTH
        )
    )(jax.random.key(0))
    for row in range(BATCH):
        drawn, seen = np.unique(np.asarray(ids[row]), axis=0, return_counts=True)
        frequency = {tuple(text): n / count for text, n in zip(drawn.tolist(), seen, strict=True)}
        for text in texts():
            expected = np.exp(log_probability(row, text))
            error = 5 * np.sqrt(expected / count) + 1e-3
            assert frequency.get(tuple(padded(text)), 0.0) == pytest.approx(expected, abs=error)
    first = np.asarray(ids[0, 0]).tolist()
    text = first[: first.index(EOS) + 1] if EOS in first else first
    assert total[0, 0] == pytest.approx(log_probability(0, text), abs=1e-4)


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_sampling_from_one_token_is_greedy(options):
    greedy, _ = generation.beam_search(step, start(1), TOKENS, batch=BATCH, beams=1, length=LENGTH)
    ids, _ = generation.sample(
        step, start(2), TOKENS, jax.random.key(1), batch=BATCH, samples=2, length=LENGTH, **options
    )
    np.testing.assert_array_equal(ids, np.repeat(greedy, 2, axis=1))


def test_narrow_keeps_what_it_says():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    kept = lambda **options: (generation.narrow(logits, **options) > -1e8).tolist()  # noqa: E731
    assert kept(top_k=2) == [True, True, False, False]
    assert kept(top_p=0.5) == [True, False, False, False]
    assert kept(top_p=0.51) == [True, True, False, False]
    assert kept(top_k=3, top_p=0.99) == [True, True, True, False]


def test_a_clips_text_does_not_depend_on_its_neighbours():
    keys = jax.random.split(jax.random.key(3), BATCH)
    both, _ = generation.sample(step, start(3), TOKENS, keys, batch=BATCH, samples=3, length=LENGTH)
    alone, _ = generation.sample(
        step, start(3, 1), TOKENS, keys[:1], batch=1, samples=3, length=LENGTH
    )
    np.testing.assert_array_equal(alone[0], both[0])
