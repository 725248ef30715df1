"""Report to video through tiny random models: what it depends on, and what it refuses."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax.diffusion import sampler as samplers
from ffa_sora_jax.pipelines import TextToVideo
from ffa_sora_jax.pipelines.text_to_video import row_key
from tests.pipelines.tiny import SAMPLING, tiny_pipeline

LEFT, RIGHT = "Left eye FFA: 1. Disc staining.", "Right eye FFA: 1. Scattered microaneurysm."


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_one_report_gives_one_video(pipeline):
    result = pipeline(LEFT, seed=3)
    assert result.video.shape == (5, 32, 32) and result.video.dtype == np.uint8
    assert result.times_s.tolist() == [2, 4, 8, 60, 600]
    assert (result.report, result.seed, result.finite) == (LEFT, 3, True)
    assert result.settings["num_steps"] == 3 and result.settings["guidance_scale"] == 2.0
    assert result.fingerprint == pipeline.fingerprint and len(result.fingerprint) == 16


def test_the_video_is_what_the_parts_make_step_by_step(pipeline):
    """The same computation, written out with the public calls of the parts."""
    parts, token = pipeline.parts, pipeline.tokenizer
    ids, mask = token.encode([LEFT], 32)
    empty_ids, empty_mask = token.encode([""], 32, allow_empty=True)
    text, empty = parts["text_encoder"](ids, mask), parts["text_encoder"](empty_ids, empty_mask)

    def denoise(x_t, t):
        with_text = parts["transformer"](x_t, t, text, mask)
        without = parts["transformer"](x_t, t, empty, empty_mask)
        return without + 2.0 * (with_text - without)

    key = jax.random.fold_in(row_key(3, LEFT), 0)
    noise = jax.random.normal(key, (2, 4, 4, 4))[None]
    latent = samplers.sample(
        "flow_euler", denoise, noise, num_steps=3, schedule="flow", prediction="flow",
        spacing="even",
    )  # fmt: skip
    video = parts["vae"].decode(parts["vae"].denormalize(latent))[0, ..., 0]
    expected = np.clip((np.asarray(video) + 1.0) * 127.5, 0, 255)
    got = pipeline(LEFT, seed=3).video
    assert got.std() > 1.0
    assert np.abs(got - expected).max() < 0.51


def test_seed_and_report_both_change_the_video(pipeline):
    first, again, other_seed, other_report = (
        pipeline(report, seed=seed).video
        for report, seed in ((LEFT, 3), (LEFT, 3), (LEFT, 4), (RIGHT, 3))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other_seed).mean() > 0.2 and (first != other_report).mean() > 0.2


def test_the_report_acts_beyond_its_noise(pipeline, monkeypatch):
    monkeypatch.setattr(
        "ffa_sora_jax.pipelines.text_to_video.row_key", lambda seed, report: jax.random.key(seed)
    )
    assert (pipeline(LEFT, seed=3).video != pipeline(RIGHT, seed=3).video).any()


@pytest.mark.parametrize("sampler", ["flow_euler", "euler_ancestral"])
def test_a_row_does_not_depend_on_its_company(pipeline, sampler, monkeypatch):
    if sampler == "euler_ancestral":  # draws noise at every step
        discrete = dataclasses.replace(
            SAMPLING, schedule="linear_zero_snr", prediction="v", sampler=sampler,
            spacing="trailing", guidance_scale=1.0,
        )  # fmt: skip
        monkeypatch.setattr(pipeline, "sampling", discrete)
    together = pipeline([LEFT, RIGHT, "Disc", "Macula"], seed=[1, 2, 3, 4], batch_size=3)
    other = pipeline(["Macula", "Vein", RIGHT], seed=[4, 9, 2], batch_size=3)
    assert [result.seed for result in together] == [1, 2, 3, 4]
    np.testing.assert_array_equal(together[1].video, other[2].video)
    np.testing.assert_array_equal(together[3].video, other[0].video)
    assert (together[0].video != together[1].video).any()
    alone = pipeline(RIGHT, seed=2).video.astype(int)
    assert np.abs(alone - together[1].video).max() <= 1


def test_programs_are_compiled_once_per_shape(pipeline):
    pipeline(LEFT)
    before = pipeline._sample._cache_size(), pipeline._decode._cache_size()
    for seed in range(3):
        pipeline(LEFT if seed else RIGHT, seed=seed, num_steps=2)
    after = pipeline._sample._cache_size(), pipeline._decode._cache_size()
    assert after == (before[0] + 1, before[1])


def test_guidance_one_needs_no_empty_report_and_differs(pipeline):
    plain = pipeline(LEFT, guidance_scale=1.0)
    assert plain.settings["guidance_scale"] == 1.0
    assert (plain.video != pipeline(LEFT).video).any()


def test_weights_that_give_no_numbers_are_noticed(pipeline, monkeypatch):
    part = pipeline.parts["transformer"]
    broken = dataclasses.replace(part, params=jax.tree.map(lambda x: x * jnp.nan, part.params))
    monkeypatch.setitem(pipeline.parts, "transformer", broken)
    assert not pipeline(LEFT).finite


@pytest.mark.parametrize(
    ("report", "settings", "message"),
    [
        ("", {}, "report is empty"),
        (" \n", {}, "report is empty"),
        ("microaneurysm " * 40, {}, "tokens; this model reads at most 32"),
        (LEFT, {"seed": -1}, "seed is -1"),
        (LEFT, {"seed": 2**32}, "must lie in 0"),
        ([LEFT, RIGHT], {"seed": [1]}, "1 seeds for 2 reports"),
        (LEFT, {"batch_size": 0}, "batch_size is 0"),
        (LEFT, {"sampler": "flow_eule"}, "Did you mean 'flow_euler'"),
        (LEFT, {"num_steps": 0}, "num_steps"),
    ],
)
def test_bad_calls_are_explained(pipeline, report, settings, message):
    with pytest.raises(ValueError, match=message):
        pipeline(report, **settings)


def test_a_size_that_the_vae_cannot_take_is_refused(pipeline):
    for change in ({"size": 36}, {"num_frames": 6, "times_s": (0, 1, 2, 3, 4, 5)}):
        with pytest.raises(ValueError, match=r"multiple|4 ?k"):
            TextToVideo(pipeline.parts, pipeline.tokenizer, dataclasses.replace(SAMPLING, **change))


# --- The folder ---


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    pipeline.save(folder, step=7)
    return folder


def test_a_saved_pipeline_gives_the_same_video(pipeline, saved):
    opened = TextToVideo.from_pretrained(saved)
    assert opened.fingerprint == pipeline.fingerprint and opened.sampling == pipeline.sampling
    np.testing.assert_array_equal(opened(LEFT, seed=5).video, pipeline(LEFT, seed=5).video)


def test_half_precision_is_smaller_and_the_index_names_what_is_stored(pipeline, saved, tmp_path):
    pipeline.save(tmp_path / "half", dtype="float16")
    opened = TextToVideo.from_pretrained(tmp_path / "half")
    index = json.loads((tmp_path / "half" / "model_index.json").read_text())
    assert index["fingerprint"] == opened.fingerprint != pipeline.fingerprint
    sizes = [sum(p.stat().st_size for p in f.rglob("*.safetensors")) for f in (tmp_path, saved)]
    assert sizes[0] < 0.6 * sizes[1]
    stored, given = (jax.tree.leaves(p.parts["vae"].params) for p in (opened, pipeline))
    for half, whole in zip(stored, given, strict=True):
        np.testing.assert_allclose(half, whole, rtol=2**-11, atol=1e-7)


def test_saving_over_a_pipeline_is_refused(pipeline, saved):
    with pytest.raises(ValueError, match="holds a pipeline already"):
        pipeline.save(saved)


@pytest.mark.parametrize("part", ["vae", "transformer", "text_encoder"])
def test_damaged_weights_are_refused(saved, tmp_path, part):
    folder = shutil.copytree(saved, tmp_path / "copy")
    weights = next((folder / part).glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-10] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=part):
        TextToVideo.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=part):
        TextToVideo.from_pretrained(folder)


def test_a_part_of_another_class_is_refused(pipeline):
    parts = {**pipeline.parts, "transformer": pipeline.parts["vae"]}
    with pytest.raises(ValueError, match="transformer is of class 'WFVAEModel'"):
        TextToVideo(parts, pipeline.tokenizer, pipeline.sampling)
    del parts["vae"]
    with pytest.raises(ValueError, match="missing: vae"):
        TextToVideo(parts, pipeline.tokenizer, pipeline.sampling)
