"""From a finding to the primitives that draw it: `RECIPES[kind](finding, anatomy, grid, rng)`."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ffa_sora_jax.phantom.anatomy import Anatomy, Grid
from ffa_sora_jax.phantom.lesions import disc, macula, retina, vessels
from ffa_sora_jax.phantom.primitives import Primitive
from ffa_sora_jax.phantom.record import Finding

Recipe: TypeAlias = Callable[[Finding, Anatomy, Grid, np.random.Generator], list[Primitive]]

RECIPES: dict[str, Recipe] = {
    "vein_occlusion": vessels.vein_occlusion,
    "collaterals": vessels.collaterals,
    "venous_beading": vessels.venous_beading,
    "arterial_narrowing": vessels.arterial_narrowing,
    "filling_delay": vessels.filling_delay,
    "microaneurysms": retina.microaneurysms,
    "capillary_leakage": retina.capillary_leakage,
    "nonperfusion": retina.nonperfusion,
    "irma": retina.irma,
    "nve": retina.nve,
    "haemorrhage_blot": retina.haemorrhage_blot,
    "haemorrhage_flame": retina.haemorrhage_flame,
    "preretinal_haemorrhage": retina.preretinal_haemorrhage,
    "hard_exudates": retina.hard_exudates,
    "cotton_wool": retina.cotton_wool,
    "laser_scars": retina.laser_scars,
    "oedema_cystoid": macula.oedema_cystoid,
    "oedema_diffuse": macula.oedema_diffuse,
    "csc_inkblot": macula.csc_inkblot,
    "csc_smokestack": macula.csc_smokestack,
    "csc_chronic": macula.csc_chronic,
    "cnv_classic": macula.cnv_classic,
    "cnv_occult": macula.cnv_occult,
    "ped": macula.ped,
    "polyps": macula.polyps,
    "drusen": macula.drusen,
    "atrophy": macula.atrophy,
    "macular_hole": macula.macular_hole,
    "disc_stain": disc.disc_stain,
    "disc_leak": disc.disc_leak,
    "nvd": disc.nvd,
}
