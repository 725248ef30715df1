"""Partial whitening of the PCA that a WF-VAE with a linear path starts from."""

import jax
import numpy as np
import pytest

from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.models.wfvae_pca import pca_init
from tests.compiling import quick_compile

LINEAR = WFVAEConfig(
    in_channels=1, latent_dim=4, base_channels=4, encoder_num_resblocks=1, decoder_num_resblocks=1,
    encoder_energy_flow_hidden_size=4, decoder_energy_flow_hidden_size=4, use_attention=False,
    norm_type="layernorm", linear_path=True, scale=(1.0,),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compile():
        yield


def latents(whitening):
    """Latents (n, 4) of noise clips whose brightness varies far more than anything else."""
    rng = np.random.default_rng(0)
    clips = 0.05 * rng.standard_normal((32, 5, 16, 16, 1)) + rng.uniform(
        -0.5, 0.5, (32, 1, 1, 1, 1)
    )
    clips = clips.astype(np.float32)
    bundle = Bundle.create(WFVAE, LINEAR)
    params = pca_init(bundle, bundle.init(jax.random.key(0)), [clips], whitening)
    mean, _ = bundle.apply(params, clips, method="encode")
    return np.asarray(mean).reshape(-1, 4), bundle.apply(params, mean, method="decode")


def test_partial_whitening_keeps_order_mean_variance_and_reconstruction():
    none, half, full = (latents(w) for w in (0.0, 0.5, 1.0))
    spreads = [latent.std(0) for latent, _ in (none, half, full)]
    np.testing.assert_allclose(spreads[2], 1.0, atol=1e-2)
    for spread in spreads:
        assert np.mean(spread**2) == pytest.approx(1.0, abs=1e-2)
    # Standard deviations are those of the pixels to the power 1 - whitening, up to one factor.
    ratio = spreads[0] / spreads[0][-1]
    np.testing.assert_allclose(spreads[1] / spreads[1][-1], np.sqrt(ratio), rtol=2e-2)
    assert ratio[0] > 5
    for _, video in (none, half):
        np.testing.assert_allclose(video, full[1], atol=1e-3)


def test_whitening_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"0 \.\. 1"):
        latents(1.5)
