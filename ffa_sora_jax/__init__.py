"""FFA Sora in JAX/Flax: fluorescein angiogram videos from reports.

The public names load on first use, so that `import ffa_sora_jax` costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Clip": "ffa_sora_jax.common.types",
    "from_pretrained": "ffa_sora_jax.convert.pretrained",
    "save_pretrained": "ffa_sora_jax.convert.pretrained",
    "TextToVideo": "ffa_sora_jax.pipelines.text_to_video",
    "VideoToReport": "ffa_sora_jax.pipelines.video_to_report",
}
_MODULES = (
    "common", "convert", "data", "diffusion", "metrics", "models", "phantom", "pipelines",
    "tasks", "train", "video",
)  # fmt: skip

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
