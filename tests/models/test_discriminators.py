"""The discriminator against the reference, in both modes of its batch norm."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import engine
from ffa_sora_jax.convert.wfvae import discriminator_rules
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.discriminators import (
    DiscriminatorConfig,
    PatchDiscriminator3D,
    running_average,
)
from tests.models.wfvae_golden import last, load
from tests.tolerances import TOL

NORMS = (3, 6, 9, 12)  # indices of the batch norms in the reference


@functools.cache
def golden_model():
    golden = load("disc")
    learned = {
        k.removeprefix("sd."): v
        for k, v in golden.items()
        if k.startswith("sd.") and not k.endswith(("running_mean", "running_var", "tracked"))
    }
    bundle = Bundle.create(PatchDiscriminator3D, DiscriminatorConfig.tiny())
    params = engine.to_params(discriminator_rules(), learned, bundle.abstract)
    return bundle, jax.tree.map(jnp.asarray, params), golden


def running(golden, prefix):
    return [
        (golden[f"{prefix}.main.{n}.running_mean"], golden[f"{prefix}.main.{n}.running_var"])
        for n in NORMS
    ]


def test_logits_with_batch_statistics_and_with_running_ones():
    bundle, params, golden = golden_model()
    stats = running(golden, "sd")
    for case in ("x", "y"):
        logits, batch = bundle.apply(params, last(golden[case]), method="with_stats")
        np.testing.assert_allclose(logits, last(golden[f"train.{case}"]), atol=TOL["unit"])
        stats = running_average(stats, batch)
    for (mean, var), (want_mean, want_var) in zip(stats, running(golden, "after"), strict=True):
        np.testing.assert_allclose(mean, want_mean, atol=TOL["unit"])
        np.testing.assert_allclose(var, want_var, atol=TOL["unit"])
    logits = bundle.apply(params, last(golden["x"]), running(golden, "sd"))
    np.testing.assert_allclose(logits, last(golden["eval.x"]), atol=TOL["unit"])


def test_the_default_has_the_published_size_and_patches():
    bundle = Bundle.create(PatchDiscriminator3D, DiscriminatorConfig())
    sizes = [int(np.prod(leaf.shape)) for leaf in tree.flatten(bundle.abstract).values()]
    assert sum(sizes) == 11_744_641
    logits = jax.eval_shape(
        bundle.apply, bundle.abstract, jax.ShapeDtypeStruct((1, 25, 64, 64, 3), jnp.float32)
    )
    assert logits.shape == (1, 7, 4, 4, 1)


def test_the_table_of_wavelet_main_skips_its_dropout_layers():
    targets = {rule.pattern: rule.target for rule in discriminator_rules(dropout=True)}
    assert targets["main.6.weight"] == "blocks/1/conv/kernel"
    assert targets["main.15.bias"] == "blocks/3/bias"
    assert targets["main.18.weight"] == "conv_out/kernel"


def test_grey_clips_need_a_grey_discriminator():
    cfg = dataclasses.replace(DiscriminatorConfig.tiny(), in_channels=1)
    bundle = Bundle.create(PatchDiscriminator3D, cfg)
    with pytest.raises(ValueError, match="c=1"):
        bundle.apply(bundle.init(jax.random.key(0)), jnp.zeros((1, 5, 32, 32, 3)))
