"""Clips of every origin look the same to the jobs that compare them."""

import json
import types

import numpy as np
import pytest

from ffa_sora_jax.jobs import clips
from ffa_sora_jax.video import io


def ramp(frames=4, side=16):
    return (np.arange(frames * side * side).reshape(frames, side, side) % 251).astype(np.uint8)


def test_a_folder_of_videos_and_of_frames(tmp_path):
    io.save_video(tmp_path / "b.webp", ramp())
    io.save_video(tmp_path / "a", ramp() // 2)
    (tmp_path / "b.json").write_text(json.dumps({"report": "leak", "patient": "p", "times_s": [1]}))
    (tmp_path / "notes.txt").write_text("not a clip")
    found = clips.open_clips(tmp_path, option="--generated")
    assert [item.name for item in found.items] == ["a", "b"] and not found.synthetic
    np.testing.assert_array_equal(found.items[1].read(), ramp()[..., None])
    np.testing.assert_array_equal(found.items[0].read(), (ramp() // 2)[..., None])
    assert (found.items[1].report, found.items[1].patient) == ("leak", "p")
    before = found.fingerprint
    io.save_video(tmp_path / "b.webp", 255 - ramp())
    assert clips.open_clips(tmp_path, option="--generated").fingerprint != before


def test_length_size_and_times_are_brought_to_one_form(tmp_path):
    io.save_video(tmp_path / "a.webp", ramp())
    (tmp_path / "a.json").write_text(json.dumps({"times_s": [0, 10, 20, 40]}))
    (item,) = clips.open_clips(tmp_path, option="--generated").items
    video, times = clips.conform(item, 7, (8, 8))
    assert video.shape == (7, 8, 8, 1) and times.tolist() == [0, 5, 10, 15, 20, 30, 40]
    blocks = ramp()[0].reshape(8, 2, 8, 2).mean((1, 3))
    np.testing.assert_allclose(video[0, ..., 0], blocks, atol=0.51)  # area average
    last = clips.conform(item, 2, None)
    np.testing.assert_array_equal(last[0][..., 0], ramp()[2:])
    assert last[1].tolist() == [20, 40]


def test_colour_datasets_are_compared_by_luma():
    video = np.zeros((2, 4, 4, 3), np.uint8)
    video[..., 0] = 200
    split = types.SimpleNamespace(read=lambda indices: [{"video": video}])
    found = clips._read_record(split, 0)
    assert found.shape == (2, 4, 4, 1) and (found == 60).all()  # 0.299 of red


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds no JSON object"),
        ('{"report": 5}', "report is 5"),
        ('{"patient": 7}', "patient is 7"),
        ('{"times_s": "soon"}', "expected a list of seconds"),
        ('{"times_s": [1, null]}', "expected a list of seconds"),
    ],
)
def test_a_spoilt_file_beside_a_clip_is_named(tmp_path, content, message):
    io.save_video(tmp_path / "a.webp", ramp())
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        clips.open_clips(tmp_path, option="--generated")


def test_two_files_of_one_name_are_refused(tmp_path):
    io.save_video(tmp_path / "a.webp", ramp())
    io.save_video(tmp_path / "a.gif", ramp())
    with pytest.raises(ValueError, match="have one name"):
        clips.open_clips(tmp_path, option="--generated")


def test_folders_without_videos_and_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no videos, and no dataset"):
        clips.open_clips(tmp_path, option="--generated")
    (tmp_path / "list.txt").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        clips.open_clips(tmp_path / "list.txt", option="--generated")
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(ValueError, match="lists no finished video"):
        clips.open_clips(tmp_path / "manifest.jsonl", option="--generated")


def test_times_and_size_beside_a_clip_are_part_of_what_it_is(tmp_path):
    io.save_video(tmp_path / "a.webp", ramp())
    digests = set()
    for facts in ({}, {"times_s": [0, 1, 2, 3]}, {"times_s": [0, 1, 2, 4]}, {"height": 8}):
        (tmp_path / "a.json").write_text(json.dumps(facts))
        digests.add(clips.open_clips(tmp_path, option="--generated").items[0].digest)
    assert len(digests) == 4
    (tmp_path / "a.json").write_text(json.dumps({"height": 8, "seed": 4}))
    assert clips.open_clips(tmp_path, option="--generated").items[0].digest in digests


def test_an_empty_file_stops_no_other_clip(tmp_path):
    io.save_video(tmp_path / "a.webp", ramp())
    (tmp_path / "b.webp").touch(), (tmp_path / "notes.txt").touch()
    one, empty = clips.open_clips(tmp_path, option="--generated").items
    assert one.read().shape == (4, 16, 16, 1) and empty.name == "b"
    with pytest.raises(ValueError, match="no bytes"):
        empty.read()
