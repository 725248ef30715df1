"""Two visits of one phantom eye: the same retina, another day, camera position and dye."""

import cv2
import numpy as np

from ffa_sora_jax.phantom import generator as g
from ffa_sora_jax.phantom.anatomy import Grid, sample_anatomy
from ffa_sora_jax.phantom.camera import expose, sample_camera
from ffa_sora_jax.phantom.diseases import sample_exam
from ffa_sora_jax.phantom.dye import sample_dye
from ffa_sora_jax.phantom.lesions import RECIPES
from ffa_sora_jax.phantom.render import build_scene, light
from ffa_sora_jax.phantom.vessels import grow_trees

SHIFT, TURN_DEG = 0.01, 0.7  # sd of how differently the camera stands


def visits(seed, index, size=128, count=2):
    """`count` clips (21, size, size) of one eye; lesions do not change in between."""

    def chance(purpose, visit=0):
        key = (seed, index, int(purpose), visit) if visit else (seed, index, int(purpose))
        return np.random.default_rng(np.random.SeedSequence(key))

    exam = sample_exam(chance(g.Purpose.EXAM))
    anatomy = sample_anatomy(chance(g.Purpose.ANATOMY))
    grid = Grid.over(anatomy, size)
    rng = chance(g.Purpose.LESIONS)
    primitives = [p for f in exam.findings for p in RECIPES[f.kind](f, anatomy, grid, rng)]
    trees = grow_trees(chance(g.Purpose.TREES), anatomy)
    scene = build_scene(chance(g.Purpose.SCENE), anatomy, grid, trees, primitives)
    clips = []
    for visit in range(count):
        times = g.frame_times("paper", chance(g.Purpose.TIMES, visit))
        frames = light(scene, sample_dye(chance(g.Purpose.DYE, visit)), times)
        rng = chance(g.Purpose.CAMERA, visit)
        camera = sample_camera(rng)
        if visit:
            middle = (size / 2 - 0.5, size / 2 - 0.5)
            matrix = cv2.getRotationMatrix2D(middle, rng.normal(0, TURN_DEG), 1)
            matrix[:, 2] += rng.normal(0, SHIFT * size, 2)
            frames = np.stack(
                [
                    cv2.warpAffine(f, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
                    for f in frames
                ]
            )
        clips.append(expose(rng, frames, camera, mirror=exam.eye == "left"))
    return clips
