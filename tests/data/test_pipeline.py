"""Batches as a pure function of (seed, step): order, shares, flips, and refusals in words."""

import itertools

import numpy as np
import pytest

from ffa_sora_jax.data import pipeline, prepared
from ffa_sora_jax.data.tokenizer import Tokenizer
from tests.data.conftest import NUM_EXAMS


def source(data_dir, split="train", batch_size=4, seed=0, config=None, **options):
    section = {"name": "phantom/64", "data_dir": str(data_dir), "text_length": 64}
    return pipeline.make_source(section | (config or {}), split, batch_size, seed, **options)


def numbers(clip):
    """The exam behind every clip of a batch: frame 0, column 0 (or its mirror image) holds it."""
    return np.minimum(clip.video[:, 0, 0, 0, 0], clip.video[:, 0, 0, -1, 0]).tolist()


def same(a, b):
    np.testing.assert_array_equal(a.video, b.video)
    np.testing.assert_array_equal(a.text.ids, b.text.ids)
    np.testing.assert_array_equal(a.exam, b.exam)


def test_a_batch_has_the_shapes_and_types_of_a_clip(data_dir):
    clip = source(data_dir).batch(0)
    assert clip.video.shape == (4, 21, 64, 64, 1) and clip.video.dtype == np.uint8
    assert clip.frame_mask.shape == (4, 21) and clip.frame_mask.dtype == bool
    assert clip.text.ids.shape == (4, 64) and clip.text.ids.dtype == np.int32
    assert clip.text.mask.dtype == bool and clip.text.mask.any(1).all()
    assert clip.exam.shape == (4,) and clip.exam.dtype == np.int64
    assert clip.latent is None


def test_every_epoch_sees_every_clip_once_in_another_order(data_dir):
    made = source(data_dir, batch_size=3)
    count = made.num_examples
    seen = list(itertools.chain(*(made.rows(step).index.tolist() for step in range(count))))
    epochs = [seen[n * count : (n + 1) * count] for n in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert epochs[0] != epochs[1] != epochs[2] != list(range(count))


def test_the_batch_of_a_step_does_not_depend_on_what_came_before(data_dir):
    made = source(data_dir)
    straight = [made.batch(step) for step in range(12)]
    for step in (11, 3, 7):
        same(source(data_dir).batch(step), straight[step])
    resumed = source(data_dir).iterate(5)
    for step in range(5, 12):
        same(next(resumed), straight[step])


def test_seeds_differ(data_dir):
    a, b = (source(data_dir, seed=seed).rows(0).index.tolist() for seed in (0, 1))
    assert a != b


def test_processes_share_a_batch_without_overlap(data_dir):
    whole = source(data_dir, batch_size=8).batch(3)
    parts = [
        source(data_dir, batch_size=8, process_index=k, process_count=4).batch(3) for k in range(4)
    ]
    np.testing.assert_array_equal(np.concatenate([p.video for p in parts]), whole.video)
    np.testing.assert_array_equal(np.concatenate([p.exam for p in parts]), whole.exam)


def test_flips_mirror_picture_and_report_together(data_dir):
    made = source(data_dir, batch_size=16)
    flipped = {False: 0, True: 0}
    for step in range(4):
        clip, rows = made.batch(step), made.rows(step)
        index, mirrored = rows.index, rows.mirrored
        texts = Tokenizer.load().decode(clip.text.ids)
        for row in range(16):
            video = clip.video[row, 0, 0, :, 0].astype(int)
            assert (video[1] < video[0]) == mirrored[row]
            eye = made.examples[index[row]].eye
            shown = {"right": "left", "left": "right"}[eye] if mirrored[row] else eye
            assert f"{shown} eye" in texts[row].lower()
            assert f"in the {shown}" in texts[row].lower()
            flipped[bool(mirrored[row])] += 1
    assert min(flipped.values()) > 16  # about half of 64


def test_flip_off_leaves_everything_unmirrored(data_dir):
    made = source(data_dir, config={"flip": False})
    assert not any(made.rows(step).mirrored.any() for step in range(20))


def test_evaluation_is_in_order_and_unmirrored(data_dir):
    made = source(data_dir, split="train", batch_size=5, shuffle=False)
    assert made.num_batches == made.num_examples // 5
    found = [numbers(made.batch(step)) for step in range(made.num_batches)]
    ids = [int(made.examples[i].exam_id[-7:]) for i in range(5 * made.num_batches)]
    assert list(itertools.chain(*found)) == ids
    small = source(data_dir, split="validation", batch_size=1)
    assert not small.rows(0).mirrored.any()


def test_examples_tell_what_is_known_of_each_clip(data_dir):
    infos = source(data_dir).examples
    assert sum(len(source(data_dir, split=s).examples) for s in ("train", "validation", "test")) \
        == NUM_EXAMS  # fmt: skip
    info = infos[0]
    index = int(info.exam_id[-7:])
    assert info.eye == ("right", "left")[index % 2] and f"Finding {index}" in info.report
    assert info.patient_id == f"phantom-0-p{index // 2:07d}"
    assert info.times_s.shape == (21,) and info.findings == [{"kind": "leak", "label": 1}]
    assert [i.exam_id for i in infos[1:3]] == [infos[1].exam_id, infos[2].exam_id]
    with pytest.raises(IndexError):
        infos[len(infos)]


def test_fewer_frames_are_spread_over_the_clip(data_dir):
    clip = source(data_dir, config={"num_frames": 5, "flip": False}).batch(0)
    frames = (clip.video[0, :, 0, 0, 0] - clip.video[0, 0, 0, 0, 0]) // 2
    assert frames.tolist() == [0, 5, 10, 15, 20] and clip.frame_mask.shape == (4, 5)


def test_three_channels_repeat_the_grey_picture(data_dir):
    grey, colour = (source(data_dir, config={"channels": c}).batch(2).video for c in (1, 3))
    np.testing.assert_array_equal(colour, np.repeat(grey, 3, axis=-1))


def test_prefetch_options_change_nothing(data_dir):
    made = source(data_dir, config={"threads": 1, "prefetch": 1})
    batches = made.iterate(0)
    for step in range(3):
        same(next(batches), source(data_dir).batch(step))


def test_exam_hashes_are_salted_and_stable():
    a, b = prepared.exam_hash("phantom-0-0000001"), prepared.exam_hash("phantom-0-0000002")
    assert a != b and 0 <= min(a, b) and max(a, b) < 2**63
    assert a == prepared.exam_hash("phantom-0-0000001")


def test_the_newest_version_is_opened(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0", "incomplete.1_2.0.0"):
        folder = tmp_path / "phantom/64" / version
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
    assert prepared.dataset_folder(tmp_path, "phantom/64").name == "1.10.0"


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"res": 128}, {}, "64 px"),
        ({"num_frames": 22}, {}, "1 to 21"),
        ({"channels": 2}, {}, "1 or 3"),
        ({"fliip": True}, {}, "'flip'"),
        ({}, {"split": "trian"}, "'train'"),
        ({}, {"batch_size": 0}, "positive multiple"),
        ({}, {"batch_size": 5, "process_count": 2}, "2 processes"),
        ({"text_length": 3}, {}, "tokens"),
    ],
)
def test_bad_options_are_refused_in_words(data_dir, config, options, message):
    with pytest.raises(ValueError, match=message):
        source(data_dir, config=config, **options).batch(0)


def test_a_long_report_is_cut_only_when_asked(data_dir):
    clip = source(data_dir, config={"text_length": 3, "truncate": True}).batch(0)
    assert clip.text.mask.all() and (clip.text.ids[:, -1] == 1).all()  # ends with eos


def test_a_missing_dataset_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="ffa-sora prepare --dataset phantom/64"):
        source(tmp_path)
