"""Batches of clinical datasets: languages, unknown eyes, interpolated frames, mixtures, caches."""

import numpy as np
import pytest

from ffa_sora_jax.data import pipeline, prepared
from ffa_sora_jax.data.tokenizer import Tokenizer
from tests.data import clinic

MIXTURE = (("hospital_exams/64", 1.0), ("ffa_ir/64", 3.0))


def source(folder, split="train", batch_size=4, seed=0, config=None, **options):
    section = {"name": "hospital_exams/64", "data_dir": str(folder), "text_length": 96}
    return pipeline.make_source(section | (config or {}), split, batch_size, seed, **options)


def texts(clip):
    return Tokenizer.load().decode(clip.text.ids)


def seen(made, steps):
    """(exam hash, text) of every row of some batches."""
    clips = [made.batch(step) for step in range(steps)]
    return [pair for clip in clips for pair in zip(clip.exam.tolist(), texts(clip), strict=True)]


def same(a, b):
    for name in ("video", "exam", "frame_mask"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.text.ids, b.text.ids)


def test_interpolated_frames_are_masked(clinic_dir):
    made = source(clinic_dir, split="validation", batch_size=1)
    for step, info in enumerate(made.examples):
        assert made.batch(step).frame_mask[0].tolist() == info.is_original.tolist()
    short = source(clinic_dir, "validation", 4, config={"num_frames": 5}).batch(0)
    assert short.frame_mask.shape == (4, 5)


def test_mirrored_reports_change_sides_in_their_own_language(clinic_dir):
    made = source(clinic_dir, batch_size=13)
    other = {"right": "left", "left": "right"}
    words = {"en": {"right": "right eye", "left": "left eye"}, "zh": {"right": "右", "left": "左"}}
    mirrored = 0
    for step in range(4):
        rows, said = made.rows(step), texts(made.batch(step))
        for index, flip, text in zip(rows.index, rows.mirrored, said, strict=True):
            info = made.examples[index]
            if info.eye == "unknown":  # nothing to swap, the picture is mirrored all the same
                assert text.lower() == info.report.lower()
                continue
            shown = other[info.eye] if flip else info.eye
            assert words[info.language][shown] in text.lower()
            assert words[info.language][other[shown]] not in text.lower()
            mirrored += flip
    assert mirrored > 8


def test_language_of_the_reports(clinic_dir):
    stored = dict(seen(source(clinic_dir, config={"flip": False}, batch_size=13), 1))
    assert any("黄斑" in text for text in stored.values())
    assert any("spot" in text.lower() for text in stored.values())
    chinese = source(clinic_dir, config={"flip": False, "language": "zh"}, batch_size=13)
    assert all("黄斑" in text for _, text in seen(chinese, 1))


def test_both_languages_take_turns_where_there_are_two(clinic_dir):
    made = source(clinic_dir, config={"flip": False, "language": "both"}, batch_size=13)
    found = {}
    for exam, text in seen(made, 8):  # one epoch each
        found.setdefault(exam, set()).add("黄斑" in text)
    for info in made.examples:
        two = found[prepared.exam_hash(info.exam_id)]
        assert len(two) == len(info.reports)
    evaluated = source(clinic_dir, config={"language": "both"}, batch_size=13, shuffle=False)
    for (_, text), info in zip(seen(evaluated, 1), evaluated.examples, strict=True):
        assert text.lower() == info.report.lower()


def test_a_language_that_is_not_there_is_refused_at_once(clinic_dir):
    with pytest.raises(ValueError, match=r"no report in data.language 'en' \(6 of 13 clips"):
        source(clinic_dir, config={"language": "en"})
    with pytest.raises(ValueError, match="Did you mean 'zh'"):
        source(clinic_dir, config={"language": "zhh"})


def test_long_reports_are_refused_at_once_and_not_shown(clinic_dir):
    with pytest.raises(ValueError, match="of 13 clips") as error:
        source(clinic_dir, config={"text_length": 12})
    longest = max(Tokenizer.load().lengths([i.report for i in source(clinic_dir).examples]))
    assert f"the longest {longest}" in str(error.value) and "Spot" not in str(error.value)
    assert (
        source(clinic_dir, config={"text_length": 12, "truncate": True}).batch(0).text is not None
    )
    late = source(clinic_dir, config={"text_length": 12, "check_reports": False})
    with pytest.raises(ValueError, match="the limit is 12"):
        for step in range(4):
            late.batch(step)
    assert source(clinic_dir, config={"text_length": 0}).batch(0).text is None


def test_only_the_first_process_looks_through_the_reports(clinic_dir, monkeypatch):
    looked = []
    monkeypatch.setattr(pipeline.Reports, "check", lambda *a, **k: looked.append(k))
    for rank in range(2):
        source(clinic_dir, process_index=rank, process_count=2)
    assert looked == [{"mirrored": True}]


def test_a_mixture_takes_its_shares_and_every_clip(clinic_dir):
    made = source(clinic_dir, batch_size=8, config={"mixture": MIXTURE})
    rows = [made.rows(step) for step in range(32)]
    part = np.concatenate([r.part for r in rows])
    assert np.bincount(part).tolist() == [64, 192] and made.num_examples == 53
    for k, count in ((0, 13), (1, 40)):
        index = np.concatenate([r.index for r in rows])[part == k]
        for epoch in range(len(index) // count):
            assert sorted(index[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_rows_of_a_mixture_are_the_clips_they_say(clinic_dir):
    made = source(clinic_dir, batch_size=16, config={"mixture": MIXTURE})
    for step in range(3):
        clip, rows = made.batch(step), made.rows(step)
        assert len(set(rows.part.tolist())) == 2
        for row in range(16):
            info = made.parts[rows.part[row]].examples[rows.index[row]]
            assert clip.exam[row] == prepared.exam_hash(info.exam_id)
            number = int(info.exam_id[-15:], 16)
            want = clinic.clip(number, 21, 64)
            want = want[:, :, ::-1] if rows.mirrored[row] else want
            np.testing.assert_array_equal(clip.video[row], want)
            assert clip.frame_mask[row].tolist() == info.is_original.tolist()
            assert f"train{number}" in texts(clip)[row].replace(" ", "").lower()


def test_a_mixture_resumes_and_is_shared_between_processes(clinic_dir):
    config = {"mixture": MIXTURE}
    made = source(clinic_dir, batch_size=8, config=config)
    straight = [made.batch(step) for step in range(6)]
    resumed = source(clinic_dir, batch_size=8, config=config).iterate(3)
    for step in range(3, 6):
        same(next(resumed), straight[step])
    for count in (2, 8):
        parts = [
            source(
                clinic_dir, batch_size=8, config=config, process_index=k, process_count=count
            ).batch(5)
            for k in range(count)
        ]  # fmt: skip
        for name in ("video", "exam"):
            whole = np.concatenate([getattr(p, name) for p in parts])
            np.testing.assert_array_equal(whole, getattr(straight[5], name))


def test_a_mixture_of_one_dataset_is_that_dataset(clinic_dir):
    mixed = source(clinic_dir, config={"name": "x/64", "mixture": (("hospital_exams/64", 2),)})
    for step in (0, 9):
        same(mixed.batch(step), source(clinic_dir).batch(step))


def test_evaluation_reads_the_named_dataset_alone(clinic_dir):
    made = source(clinic_dir, split="validation", config={"mixture": MIXTURE})
    assert len(made.parts) == 1 and made.parts[0].name == "hospital_exams/64"


def test_unlike_clips_are_refused_in_words(clinic_dir, tmp_path):
    for folder in ("hospital_exams", "ffa_ir"):
        (tmp_path / folder).symlink_to(clinic_dir / folder)
    clinic.prepare(tmp_path, "small", counts={"train": 4}, size=32)
    clinic.prepare(tmp_path, "short", counts={"train": 4}, frames=9)
    clinic.prepare(tmp_path, "long", counts={"train": 4}, frames=33)

    def mixed(name, **config):
        pairs = (("hospital_exams/64", 1), (name, 1))
        return source(tmp_path, config={"mixture": pairs, **config})

    with pytest.raises(ValueError, match=r"small/32.* has 32 px, data.res is 64"):
        mixed("small/32")
    with pytest.raises(ValueError, match=r"short/64.*has 9 frames.* 1 to 9"):
        mixed("short/64")
    assert mixed("short/64", num_frames=9).batch(0).video.shape == (4, 9, 64, 64, 1)
    assert mixed("long/64").batch(0).video.shape == (4, 21, 64, 64, 1)
    with pytest.raises(FileNotFoundError, match="ffa-sora prepare --dataset none/64"):
        mixed("none/64")
    with pytest.raises(ValueError, match=r"data/latents/\{name\}"):
        mixed("ffa_ir/64", latents="data/latents")
