import jax
import numpy as np

from ffa_sora_jax.common import seeds


def bits(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_streams_and_steps_differ_and_repeat():
    keys = [
        seeds.at_step(seeds.stream(seed, name), step)
        for seed in (0, 1)
        for name in ("init", "train", "eval")
        for step in (0, 1)
    ]
    assert len({bits(key) for key in keys}) == len(keys)
    assert bits(seeds.stream(3, "train")) == bits(seeds.stream(3, "train"))
    assert bits(jax.jit(seeds.at_step)(seeds.stream(0, "a"), 7)) == bits(
        seeds.at_step(seeds.stream(0, "a"), 7)
    )
