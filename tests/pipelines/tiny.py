"""A pipeline of tiny random models: 5 frames of 32 px, for tests of what lies around the models."""

import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert.pretrained import Pretrained
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.dit import DiT, DiTConfig
from ffa_sora_jax.models.t5 import T5Config, T5Encoder
from ffa_sora_jax.models.wfvae import WFVAE, WFVAEConfig
from ffa_sora_jax.pipelines import SamplingConfig, TextToVideo

SAMPLING = SamplingConfig(
    schedule="flow", prediction="flow", sampler="flow_euler", spacing="even", num_steps=3,
    guidance_scale=2.0, size=32, num_frames=5, channels=1, text_length=32,
    times_s=(2, 4, 8, 60, 600),
)  # fmt: skip


def tiny_pipeline(sampling: SamplingConfig = SAMPLING) -> TextToVideo:
    """Random weights, large enough that report and noise both show in the video."""
    tokenizer = Tokenizer.load()
    vae = WFVAEConfig(
        in_channels=1, latent_dim=4, base_channels=4, encoder_num_resblocks=1,
        decoder_num_resblocks=1, encoder_energy_flow_hidden_size=4,
        decoder_energy_flow_hidden_size=4, use_attention=False, norm_type="layernorm",
        t_interpolation="trilinear", scale=(0.5, 1.0, 2.0, 0.25), shift=(0.1, 0.0, -0.2, 0.3),
    )  # fmt: skip
    dit = DiTConfig(
        num_layers=2, num_attention_heads=2, attention_head_dim=12, in_channels=4,
        caption_channels=16, sparse1d=False, qk_norm=True, norm="rmsnorm", pooled_text=True,
    )  # fmt: skip
    text = T5Config(
        vocab_size=tokenizer.vocab_size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    parts = {
        "vae": ("WFVAEModel", Bundle.create(WFVAE, vae)),
        "transformer": ("OpenSoraT2V_v1_3", Bundle.create(DiT, dit)),
        "text_encoder": ("T5EncoderModel", Bundle.create(T5Encoder, text)),
    }
    made = {
        name: Pretrained(class_name, bundle, random_params(bundle.abstract, seed))
        for seed, (name, (class_name, bundle)) in enumerate(parts.items())
    }
    return TextToVideo(made, tokenizer, sampling)


def random_params(abstract, seed):
    """Parameters of a usual size, drawn by numpy: compiling the real initialisation is slow."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))

    def draw(path, leaf):
        if path.endswith("scale"):
            return jnp.ones(leaf.shape, leaf.dtype)
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        return jnp.asarray(rng.normal(0, fan_in**-0.5, leaf.shape), leaf.dtype)

    return tree.map_with_path(draw, abstract)
