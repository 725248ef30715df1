"""Videos in, reports out, with a tiny captioner of random weights."""

import dataclasses
import json

import numpy as np
import pytest

from ffa_sora_jax.common import tree
from ffa_sora_jax.convert import pretrained
from ffa_sora_jax.data.tokenizer import Tokenizer
from ffa_sora_jax.models.bundle import Bundle
from ffa_sora_jax.models.captioner import Blip, BlipConfig
from ffa_sora_jax.pipelines.video_to_report import VideoToReport, Writing
from ffa_sora_jax.video.io import save_video
from tests.pipelines.tiny import random_params

WRITING = Writing(num_beams=2, max_new_tokens=10)


def tiny_captioner(writing=WRITING, **changes):
    tokenizer = Tokenizer.load()
    cfg = BlipConfig.tiny(
        vocab_size=tokenizer.vocab_size + 1, bos_id=tokenizer.vocab_size, eos_id=1,
        **{"num_frames": 3, **changes},
    )  # fmt: skip
    params = random_params(Bundle.create(Blip, cfg).abstract, 1)
    # Without biases, which would outweigh what is seen.
    params = tree.map_with_path(lambda p, x: x * (not p.endswith("bias")), params)
    model = pretrained.create("BlipForConditionalGeneration", cfg, params)
    return VideoToReport(model, tokenizer, writing)


def clip(seed=0, t=5, size=16):
    """One grey level per patch: noise looks alike to a ViT of random weights."""
    coarse = np.random.default_rng(seed).integers(0, 256, (t, 2, 2), np.uint8)
    return coarse.repeat(size // 2, axis=1).repeat(size // 2, axis=2)


@pytest.fixture(scope="module")
def captioner():
    return tiny_captioner()


@pytest.fixture(scope="module")
def texts(captioner):
    return captioner([clip(0), clip(1), clip(2)], batch_size=2)


def test_one_report_per_video_that_depends_on_it_alone(captioner, texts):
    assert len(set(texts)) > 1 and all(isinstance(text, str) for text in texts)
    assert captioner([clip(1), clip(0)], batch_size=2) == [texts[1], texts[0]]
    assert captioner([clip(2)[..., None]], batch_size=2) == [texts[2]]


def test_reads_files_and_folders_of_frames(captioner, texts, tmp_path):
    save_video(tmp_path / "a.webp", clip(0))
    save_video(tmp_path / "b", clip(1))
    assert captioner([tmp_path / "a.webp", str(tmp_path / "b")], batch_size=2) == texts[:2]


def test_a_saved_folder_writes_the_same_reports(captioner, texts, tmp_path):
    captioner.save(tmp_path / "model")
    again = VideoToReport.from_pretrained(tmp_path / "model")
    assert again.writing == WRITING and again.fingerprint == captioner.fingerprint
    assert again([clip(0), clip(1)], batch_size=2) == texts[:2]


def test_settings_of_other_libraries_are_passed_over(captioner, tmp_path):
    captioner.save(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"num_beams": 4, "bos_token_id": 30522, "top_p": None}))
    opened = VideoToReport.from_pretrained(tmp_path)
    # As many tokens as the model has positions.
    assert opened.writing == Writing(num_beams=4, max_new_tokens=20)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"generation_config\.json"):
        VideoToReport.from_pretrained(tmp_path)


def test_draws_follow_the_seed_and_the_clip(captioner):
    def draw(seed, videos):
        return captioner(videos, seed=seed, batch_size=2, do_sample=True, temperature=1.5)

    first = draw(0, [clip(0), clip(1)])
    assert draw(0, [clip(1), clip(0)]) == first[::-1]
    assert draw(1, [clip(0), clip(1)]) != first


def test_colour_is_read_as_grey_by_a_stack():
    stacked = tiny_captioner(
        num_frames=1, stack=4, in_channels=4, image_mean=(0.5,), image_std=(0.5,)
    )
    grey = clip(0)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    assert stacked(colour) == stacked(grey)


@pytest.mark.parametrize(
    ("video", "options", "match"),
    [
        (np.zeros((5, 16, 16), np.float32), {}, "float32"),
        (np.zeros((16, 16), np.uint8), {}, r"\(16, 16\)"),
        (clip(), {"num_beams": 0}, "num_beams"), (clip(), {"beams": 3}, "Unknown settings"),
        (clip(), {"temperature": 0.0}, "temperature"), (clip(), {"top_p": 0.0}, "top_p"),
        (clip(), {"max_new_tokens": 21}, "at most 20"), (clip(), {"seed": -1}, "seed"),
        (clip(), {"batch_size": 0}, "batch_size"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(captioner, video, options, match):
    with pytest.raises(ValueError, match=match):
        captioner(video, **options)


def test_another_tokenizer_or_class_is_refused(captioner):
    cfg = dataclasses.replace(captioner.model.cfg, eos_id=2)
    model = pretrained.create("BlipForConditionalGeneration", cfg, captioner.model.params)
    with pytest.raises(ValueError, match="tokenizer"):
        VideoToReport(model, captioner.tokenizer, WRITING)
    other = dataclasses.replace(captioner.model, class_name="WFVAEModel")
    with pytest.raises(ValueError, match="WFVAEModel"):
        VideoToReport(other, captioner.tokenizer, WRITING)
