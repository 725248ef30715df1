"""Changes to training clips that leave what they show as it was; they run on the device."""

import jax
import jax.numpy as jnp
import numpy as np

from ffa_sora_jax.common.types import Array


def vary(video: Array, rng: jax.Array, *, shift: float = 0.0, gain: float = 0.0) -> Array:
    """Clips (b, t, h, w, c) in [-1, 1], each moved and made lighter or darker as a whole.

    Args:
      video: the clips.
      rng: fixes what happens to each.
      shift: clips are moved by up to this share of their side, up or down and left or right, edges
        repeated.
      gain: light is multiplied by a factor between 1 / (1 + gain) and 1 + gain.
    """
    shift_key, gain_key = jax.random.split(rng)
    b, _, height, width, _ = video.shape
    if shift:
        reach = np.array([round(shift * height), round(shift * width)])
        by = jax.random.randint(shift_key, (b, 2), -reach, reach + 1)

        def move(clip: Array, by: Array) -> Array:
            rows = jnp.clip(jnp.arange(height) + by[0], 0, height - 1)
            columns = jnp.clip(jnp.arange(width) + by[1], 0, width - 1)
            return clip[:, rows][:, :, columns]

        video = jax.vmap(move)(video, by)
    if gain:
        bound = np.log1p(gain)
        log_gain = jax.random.uniform(gain_key, (b, 1, 1, 1, 1), minval=-bound, maxval=bound)
        video = jnp.clip((video + 1.0) * jnp.exp(log_gain) - 1.0, -1.0, 1.0)
    return video
