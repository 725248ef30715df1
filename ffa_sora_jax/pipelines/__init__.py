"""What a user calls: whole models with their tokenizer and sampler."""

import importlib
from typing import Any

_PUBLIC = {
    "SamplingConfig": "ffa_sora_jax.pipelines.folder",
    "TextToVideo": "ffa_sora_jax.pipelines.text_to_video",
    "VideoResult": "ffa_sora_jax.pipelines.result",
    "VideoToReport": "ffa_sora_jax.pipelines.video_to_report",
}
__all__ = ["SamplingConfig", "TextToVideo", "VideoResult", "VideoToReport"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
