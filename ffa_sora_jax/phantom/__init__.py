"""Procedural fluorescein angiograms with reports and exact ground truth."""

from ffa_sora_jax.phantom.generator import Phantom as Phantom
from ffa_sora_jax.phantom.generator import generate as generate
