"""Clips survive a round trip, say that they are synthetic, and bad input is refused in words."""

import numpy as np
import pytest

from ffa_sora_jax.video import io

FPS = 3.0


def clip(num_frames=21, size=64, channels=0):
    """Smooth moving blobs, with two equal neighbours, which GIF and WebP writers merge."""
    y, x = np.mgrid[:size, :size] / size
    frames = [127 + 120 * np.sin(6 * x + 0.3 * t) * np.cos(5 * y) for t in range(num_frames)]
    frames[2:3] = frames[1:2][: len(frames[2:3])]
    video = np.stack(frames).astype(np.uint8)
    if channels:
        video = np.stack([video, 255 - video, video // 2], axis=-1)
    return video


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "frames"])
def test_gray_clip_comes_back_exactly(tmp_path, name):
    video = clip()
    io.save_video(tmp_path / name, video, FPS)
    back, fps = io.load_video(tmp_path / name)
    np.testing.assert_array_equal(back, video)
    assert fps == FPS


@pytest.mark.parametrize("name", ["a.webp", "frames"])
def test_colour_clip_comes_back_exactly(tmp_path, name):
    video = clip(channels=3)
    io.save_video(tmp_path / name, video, FPS)
    np.testing.assert_array_equal(io.load_video(tmp_path / name, gray=False)[0], video)


@pytest.mark.parametrize(("codec", "least_db"), [("h264", 42), ("mp4v", 33)])
@pytest.mark.parametrize("channels", [0, 3])
def test_mp4_keeps_every_frame_and_the_rate(tmp_path, codec, least_db, channels):
    if codec == "h264":
        pytest.importorskip("av")
    video = clip(channels=channels)
    assert io.save_video(tmp_path / "a.mp4", video, FPS, codec=codec) == codec
    back, fps = io.load_video(tmp_path / "a.mp4", gray=not channels)
    assert back.shape == video.shape
    assert fps == pytest.approx(FPS)
    if not channels:  # 4:2:0 halves the colour resolution
        assert psnr(back, video) > least_db


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.webp", None), ("a.gif", None), ("frames", None), ("a.mp4", "h264"), ("a.mp4", "mp4v")],
)
def test_every_file_says_it_is_synthetic_and_keeps_its_text(tmp_path, name, codec):
    if codec == "h264":
        pytest.importorskip("av")
    text = 'Left eye FFA: 1. <leak> "x" & é 视网膜. ' * 40
    io.save_video(tmp_path / name, clip(5), FPS, text, codec=codec)
    note = io.read_note(tmp_path / name)
    assert note["notice"].startswith("SYNTHETIC")
    assert (note["text"], note["frames"], note["fps"]) == (text, 5, FPS)


def test_a_saved_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    for frames in (9, 5):
        io.save_video(tmp_path / "a.webp", clip(frames), FPS)
        io.save_video(tmp_path / "frames", clip(frames), FPS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.webp", "frames"]
    assert len(io.load_video(tmp_path / "a.webp")[0]) == 5
    assert len(io.load_video(tmp_path / "frames")[0]) == 5


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    io.save_video(tmp_path / "a.gif", clip(5), FPS)

    def fail(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(io._WRITERS, "gif", fail)
    with pytest.raises(OSError, match="No space"):
        io.save_video(tmp_path / "a.gif", clip(9), FPS)
    assert len(io.load_video(tmp_path / "a.gif")[0]) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_png_frames_never_mix_with_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        io.save_video(tmp_path, clip(2), FPS)


@pytest.mark.parametrize(
    ("name", "video", "options", "message"),
    [
        ("a.avi", clip(2), {}, "suffix"),
        ("a.mp4", clip(2), {"codec": "h265"}, "h264, mp4v"),
        ("a.mp4", clip(2, size=33), {"codec": "mp4v"}, "even"),
        ("a.gif", clip(2).astype(np.float32), {}, "float32"),
        ("a.gif", clip(2)[None, None], {}, "expected"),
        ("a.gif", clip(2)[:0], {}, "expected"),
        ("a.gif", clip(2), {"fps": 0}, "positive"),
    ],
)
def test_bad_input_is_refused_in_words(tmp_path, name, video, options, message):
    with pytest.raises(ValueError, match=message):
        io.save_video(tmp_path / name, video, **options)


def test_frames_of_two_sizes_are_no_clip(tmp_path):
    io.write_image(tmp_path / "0.png", np.zeros((16, 16), np.uint8))
    io.write_image(tmp_path / "1.png", np.zeros((8, 16), np.uint8))
    with pytest.raises(ValueError, match="frames of 16 x 8 and 16 x 16 px"):
        io.load_video(tmp_path)


def test_without_pyav_the_message_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(io.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"ffa-sora-jax\[video\].*mp4v"):
        io.save_video(tmp_path / "a.mp4", clip(2))


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a video")
    with pytest.raises(ValueError, match=name):
        io.load_video(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        io.load_video(tmp_path / f"missing-{name}")


def test_a_strange_file_has_no_note(tmp_path):
    from PIL import Image

    Image.fromarray(clip(1)[0]).save(tmp_path / "a.gif", comment=b"holiday")
    assert io.read_note(tmp_path / "a.gif") is None
