"""Exams of every format come out frame by frame, in order, in grey values and times; damage is
refused by code; no name and no tag value comes out."""

import ast
import importlib.util
import logging
import os
import pickle
import tracemalloc
import weakref
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ffa_sora_jax.video import exam as exam_module
from ffa_sora_jax.video import io
from ffa_sora_jax.video.exam import Source, guarded
from ffa_sora_jax.video.reading import ExamReader, Limits, ReadError, natural_key, open_exam
from tests.video.exam_files import (
    SECRET,
    clip,
    coloured,
    png_bytes,
    write_dicom,
    write_frames,
    write_video,
)
from tfds_ffa.curation.reasons import REASONS

LOSSY = 16  # grey levels, of the lossy codecs


def read(path, **options):
    with open_exam(path, **options) as exam:
        return exam, list(exam)


def refused(path, **options):
    """The reason code with which an exam is refused; its words must give nothing away."""
    with pytest.raises(ReadError) as caught:
        read(path, **options)
    error = caught.value
    assert SECRET not in str(error) and str(path.parent) not in str(error)
    assert error.__cause__ is None and error.__context__ is None
    assert error.reason in REASONS
    return error.reason


def grey(frame):
    return frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


# --- Folders of frames ---


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif", ".webp", ".jpg"])
@pytest.mark.parametrize("is_colour", [False, True])
def test_frames_of_a_folder_come_in_natural_order(tmp_path, suffix, is_colour):
    video = coloured(clip()) if is_colour else clip()
    exact = suffix != ".jpg" and not (suffix == ".gif" and is_colour)
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0}}
    folder = write_frames(tmp_path / "x", video, suffix, **options.get(suffix, {}))
    exam, frames = read(folder)
    assert (exam.kind, exam.num_frames, exam.bits, exam.times_s) == ("frames", 6, 8, None)
    for frame, expected in zip(frames, video, strict=True):
        if frame.ndim > expected.ndim:
            frame = grey(frame)
        assert frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - expected).max() <= (0 if exact else 40)
    assert [np.array_equal(a, b) for a, b in zip(exam, frames, strict=True)] == [True] * 6


def test_a_given_order_wins_and_leaves_out_what_it_does_not_name(tmp_path):
    video = clip()
    folder = write_frames(tmp_path / "x", video, ".png")
    names = [f"{SECRET} frame{n}.png" for n in (13, 9, 8)]
    _, frames = read(folder, order=names)
    np.testing.assert_array_equal(frames, video[[5, 1, 0]])
    assert refused(folder, order=[*names, "frame99.png"]) == "bad_row"
    assert refused(folder, order=[*names, names[0]]) == "bad_row"
    assert refused(folder, order=["../x/a.png"]) == "outside_root"
    assert refused(folder / names[0], order=names) == "bad_row"


def test_natural_order():
    names = ["B2.png", "b10.png", "a1b2.png", "a1b10.png", "a01b3.png", "9" * 200, "x٣", "x"]
    assert sorted(reversed(names), key=natural_key) == [
        "9" * 200, "a1b2.png", "a01b3.png", "a1b10.png", "B2.png", "b10.png", "x", "x٣",
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_12_of_16_bits_are_scaled_by_one_factor(tmp_path, channels):
    video = clip(top=4095)
    for number, frame in enumerate(video):
        planes = {1: [frame], 2: [frame], 3: [frame, frame // 2, 0 * frame]}.get(channels)
        planes = planes or [frame, frame // 2, 0 * frame]
        planes += [np.full_like(frame, 65535)] * (channels in (2, 4))
        (tmp_path / f"{number}.png").write_bytes(png_bytes(np.stack(planes, axis=-1)))
    exam, frames = read(tmp_path)
    assert exam.bits == 12
    red = [frame if frame.ndim == 2 else frame[..., 0] for frame in frames]
    np.testing.assert_array_equal(red, np.rint(video * (255 / 4095)))
    if channels > 2:
        np.testing.assert_array_equal(frames[0][..., 1], np.rint(video[0] // 2 * (255 / 4095)))


def test_all_16_bits_and_8_bits_side_by_side(tmp_path):
    video = clip(top=65535)
    for number, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / f"{number}.tif")
    Image.fromarray(clip()[0]).save(tmp_path / "6.png")
    exam, frames = read(tmp_path)
    assert exam.bits == 16
    np.testing.assert_array_equal(frames[:6], np.rint(video / 257))
    np.testing.assert_array_equal(frames[6], clip()[0])


def test_palette_alpha_and_one_bit_pictures(tmp_path):
    base = clip()[0]
    opaque = Image.fromarray(base)
    see_through = np.where(np.arange(64) < 32, 255, 0)[None].repeat(48, 0).astype(np.uint8)
    opaque.quantize(256).save(tmp_path / "0.png")
    Image.merge("LA", [opaque, Image.fromarray(see_through)]).save(tmp_path / "1.png")
    opaque.convert("1").save(tmp_path / "2.png")
    opaque.convert("CMYK").save(tmp_path / "3.tif")
    palette, alpha, one_bit, cmyk = read(tmp_path)[1]
    assert np.abs(grey(palette).astype(int) - base).max() <= 4
    np.testing.assert_array_equal(alpha, np.where(see_through, base, 0))  # transparent is black
    assert set(np.unique(one_bit)) == {0, 255}
    np.testing.assert_array_equal(cmyk[..., 0], base)


def test_pictures_stand_upright(tmp_path):
    video = coloured(clip())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(video[0]).save(tmp_path / f"{orientation}.png", exif=exif)
    a = video[0]
    upright = [a, a[:, ::-1], a[::-1, ::-1], a[::-1], a.swapaxes(0, 1), np.rot90(a, 3),
               a[::-1, ::-1].swapaxes(0, 1), np.rot90(a)]  # fmt: skip
    exam, frames = read(tmp_path)
    for frame, expected in zip(frames, upright, strict=True):
        np.testing.assert_array_equal(frame, expected)
    assert exam.notes == ("mixed_sizes",)


def test_pages_of_a_tiff_are_frames(tmp_path):
    for name, video, bits in (("a.tif", clip(), 8), ("b.tif", clip(top=4095), 12)):
        first, *rest = [Image.fromarray(frame) for frame in video]
        first.save(tmp_path / name, save_all=True, append_images=rest)
        exam, frames = read(tmp_path / name)
        assert (exam.kind, exam.num_frames, exam.bits) == ("frames", 6, bits)
        np.testing.assert_array_equal(frames, np.rint(video * (255 / (2**bits - 1))))


def test_a_white_is_zero_tiff_is_turned(tmp_path):
    video = clip(top=65535)
    for number, frame in enumerate(video):
        Image.fromarray(65535 - frame).save(tmp_path / f"{number}.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(read(tmp_path)[1], np.rint(video / 257))


# --- Videos and animations ---

VIDEOS = [("a.mp4", "mp4v"), ("a.mov", "mp4v"), ("a.avi", "XVID"), ("a.avi", "MJPG"),
          ("a.mkv", "FFV1"), ("a.webm", "VP90")]  # fmt: skip


@pytest.mark.parametrize("has_av", [True, False])
@pytest.mark.parametrize(("name", "codec"), VIDEOS)
def test_videos_with_their_times(tmp_path, name, codec, has_av, monkeypatch):
    if has_av:
        pytest.importorskip("av")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if has_av else None)
    video = clip()
    exam, frames = read(write_video(tmp_path / f"{SECRET} {name}", video, codec))
    assert (exam.kind, exam.num_frames, exam.bits, exam.notes) == ("video", 6, 8, ())
    np.testing.assert_allclose(exam.times_s, np.arange(6) / 4, atol=1e-3)  # ms in matroska
    assert exam.times_from == "first_frame"
    error = np.abs(np.stack([grey(frame) for frame in frames]).astype(int) - video)
    assert np.median(error) <= (0 if codec == "FFV1" else LOSSY / 4)
    assert np.percentile(error, 99) <= (1 if codec == "FFV1" else LOSSY)


def test_tags_in_another_encoding_spoil_no_video(tmp_path):
    pytest.importorskip("av")
    path = write_video(tmp_path / "a.avi", clip(), "MJPG")
    content = path.read_bytes()
    assert b"Lavf" in content  # the tag that names the program
    path.write_bytes(content.replace(b"Lavf", "Gerät".encode("latin-1")[:4][::-1]))
    assert len(read(path)[1]) == 6


def write_uneven(path, video, times_s, pix_fmt="gray"):
    """FFV1 with given times."""
    import fractions

    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=100)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], pix_fmt
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        for pixels, time in zip(video, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format=pix_fmt)
            frame.pts, frame.time_base = round(time * 1000), fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_uneven_times_and_deep_grey_of_a_video(tmp_path):
    pytest.importorskip("av")
    video, times = clip(top=4095), [3.0, 3.5, 5.1, 9.0, 20.25, 61.0]
    write_uneven(tmp_path / "a.mkv", video, times, "gray16le")
    exam, frames = read(tmp_path / "a.mkv")
    np.testing.assert_allclose(exam.times_s, np.array(times) - 3, atol=1e-3)
    assert exam.bits == 12
    np.testing.assert_array_equal(frames, np.rint(video * (255 / 4095)))


@pytest.mark.parametrize("has_av", [True, False])
def test_a_video_that_was_filmed_sideways_stands_upright(tmp_path, has_av, monkeypatch):
    if has_av:
        pytest.importorskip("av")
    path, video = write_video(tmp_path / "a.mp4", clip(), "mp4v"), clip()
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    clockwise = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4")
    data[matrix : matrix + 36] = clockwise.tobytes()
    path.write_bytes(data)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if has_av else None)
    frames = np.stack([grey(frame) for frame in read(path)[1]]).astype(int)
    assert np.median(np.abs(frames - np.rot90(video, 3, axes=(1, 2)))) <= LOSSY / 4


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_with_their_durations(tmp_path, name):
    video = clip()
    first, *rest = [Image.fromarray(frame) for frame in video]
    options = {"duration": [500, 1000, 250, 750, 100, 300], "save_all": True}
    options |= {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, append_images=rest, **options)
    exam, frames = read(tmp_path / name)
    assert exam.kind == "animation"
    np.testing.assert_allclose(exam.times_s, [0, 0.5, 1.5, 1.75, 2.5, 2.6])
    error = np.abs(np.stack([grey(frame) for frame in frames]).astype(int) - video)
    assert error.max() <= (1 if name == "a.gif" else 0)  # a full palette rounds


# --- By content ---


def test_content_is_believed_and_a_wrong_name_noted(tmp_path):
    write_video(tmp_path / "v.avi", clip(), "MJPG").rename(tmp_path / "v.mp4")
    assert read(tmp_path / "v.mp4")[0].notes == ("wrong_extension",)
    folder = write_frames(tmp_path / "x", clip(), ".png")
    for path in folder.iterdir():
        path.rename(path.with_suffix(".jpg"))
    exam, frames = read(folder)
    assert (exam.notes, len(frames)) == (("wrong_extension",), 6)
    for path in folder.iterdir():
        path.rename(path.with_suffix(""))  # no suffix claims nothing
    assert read(folder)[0].notes == ()


def test_a_folder_that_holds_one_exam_stands_for_it(tmp_path):
    write_frames(tmp_path / "x" / "y" / "z", clip(), ".png")
    assert read(tmp_path / "x")[0].num_frames == 6
    (tmp_path / "v").mkdir()
    write_video(tmp_path / "v" / "a.avi", clip(), "MJPG")
    assert read(tmp_path / "v")[0].kind == "video"


def test_what_lies_beside_the_frames_is_noted(tmp_path):
    folder = write_frames(tmp_path / "x", clip(), ".png")
    (folder / "Thumbs.db").write_bytes(b"clutter")
    (folder / ".DS_Store").write_bytes(b"clutter")
    assert read(folder)[0].notes == ()
    (folder / "notes.txt").write_text("Anna")
    (folder / "small").mkdir()
    assert read(folder)[0].notes == ("extra_files",)


def test_a_folder_of_several_exams_is_refused(tmp_path):
    folder = write_frames(tmp_path / "a", clip(), ".png")
    write_video(folder / "v.avi", clip(), "MJPG")
    assert refused(folder) == "ambiguous_exam"
    write_frames(tmp_path / "b" / "od", clip(), ".png")
    write_frames(tmp_path / "b" / "os", clip(), ".png")
    assert refused(tmp_path / "b") == "ambiguous_exam"


def test_unicode_and_long_names(tmp_path):
    long = "é視" * 45  # 225 bytes
    folder = write_frames(tmp_path / long, clip(), ".png")
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{long}{number}.png")
    assert len(read(folder)[1]) == 6
    assert refused(tmp_path / (SECRET * 100)) == "name_too_long"
    assert refused(tmp_path / SECRET) == "unreadable"
    assert refused(tmp_path / f"{SECRET}\0") == "unreadable"
    (folder / f"{SECRET}.png").symlink_to(tmp_path / "nowhere")
    assert refused(folder) == "unreadable"


def test_links_that_lead_back_are_refused_and_others_followed(tmp_path):
    folder = write_frames(tmp_path / "x", clip(), ".png")
    (tmp_path / "link").symlink_to(folder)
    assert len(read(tmp_path / "link")[1]) == 6
    (folder / "frame20.png").symlink_to(tmp_path / "x" / f"{SECRET} frame8.png")
    assert len(read(folder)[1]) == 7
    (folder / "frame30.png").symlink_to("frame30.png")
    assert refused(folder) == "symlink_loop"
    (folder / "frame30.png").unlink()
    (folder / SECRET).symlink_to(tmp_path)
    assert refused(folder) == "symlink_loop"


# --- Damage ---


def every_format(folder):
    """One exam per format, each of 6 frames."""
    video = clip()
    for name, codec in (("a.avi", "XVID"), ("b.mkv", "FFV1"), ("c.webm", "VP90")):
        yield write_video(folder / (SECRET + name), video, codec)
    for name, codec in (("d.mp4", "mp4v"), ("e.gif", None), ("f.webp", None)):
        io.save_video(folder / (SECRET + name), video, text=SECRET, codec=codec)
        yield folder / (SECRET + name)
    first, *rest = [Image.fromarray(frame) for frame in video]
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", SECRET)
    first.save(folder / (SECRET + "g.png"), save_all=True, append_images=rest, pnginfo=info)
    first.save(folder / (SECRET + "h.tif"), save_all=True, append_images=rest, description=SECRET)
    yield from (folder / (SECRET + name) for name in ("g.png", "h.tif"))
    if importlib.util.find_spec("pydicom"):
        yield write_dicom(folder / (SECRET + "i.dcm"), video)
        yield write_dicom(folder / (SECRET + "j.dcm"), video, syntax="1.2.840.10008.1.2.5")
    for suffix in (".jpg", ".png", ".bmp", ".tif"):
        yield write_frames(folder / (SECRET + suffix[1:]), video, suffix)


@pytest.mark.filterwarnings("error")
def test_damage_is_refused_by_code_and_gives_nothing_away(tmp_path, caplog, capfd):
    exams = list(every_format(tmp_path))
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    rng = np.random.default_rng(0)
    for path in exams:
        target = sorted(path.iterdir())[3] if path.is_dir() else path
        whole = target.read_bytes()
        assert len(read(path)[1]) == 6
        for share in (0.02, 0.6, 0.98):
            target.write_bytes(whole[: max(1, int(len(whole) * share))])
            assert refused(path) in ("truncated", "unreadable", "unknown_format", "too_few_frames")
        target.write_bytes(b"")
        assert refused(path) == "empty_file"
        target.write_bytes(rng.bytes(2000))
        assert refused(path) in ("unknown_format", "unreadable")
        for _ in range(4):
            damaged = bytearray(whole)
            for place in rng.integers(len(whole), size=4):
                damaged[place] ^= 1 << int(rng.integers(8))
            target.write_bytes(damaged)
            try:
                read(path)  # a changed pixel is no damage that a reader could see
            except ReadError as error:
                assert SECRET not in str(error) and error.reason in REASONS
        target.write_bytes(whole)
    written = capfd.readouterr()
    assert SECRET not in caplog.text and SECRET not in written.out + written.err


def test_a_decoder_that_talks_is_not_heard(caplog, recwarn):
    import warnings

    def work():
        warnings.warn(SECRET, stacklevel=1)
        logging.getLogger("pydicom").warning(SECRET)
        logging.getLogger("PIL.PngImagePlugin").debug(SECRET)
        raise OSError(SECRET)

    caplog.set_level(logging.DEBUG)
    with pytest.raises(ReadError) as caught:
        guarded(work)
    assert (caught.value.reason, caught.value.__context__) == ("unreadable", None)
    assert SECRET not in caplog.text + str(caught.value) and not recwarn.list
    logging.getLogger("pydicom").warning("loud again")
    assert "loud again" in caplog.text


def test_encrypted_and_strange_files(tmp_path):
    path = tmp_path / f"{SECRET}.dcm"
    path.write_bytes(b"PK\x03\x04\x14\x00\x01\x00" + bytes(200))
    assert refused(path) == "encrypted"
    path.write_bytes(bytes.fromhex("308006092a864886f70d010703a080") + bytes(200))
    assert refused(path) == "encrypted"
    video = write_video(tmp_path / "a.mp4", clip(), "mp4v")
    video.write_bytes(video.read_bytes().replace(b"mp4v", b"encv"))
    assert refused(video) == "encrypted"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    assert refused(tmp_path / "a.zip") == "unknown_format"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "pipe.mp4") == "unreadable"
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == "too_few_frames"
    (tmp_path / "empty/1.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200))
    assert refused(tmp_path / "empty") == "unknown_format"


def test_32_bit_pictures_are_refused(tmp_path):
    for number, frame in enumerate(clip().astype(np.float32)):
        Image.fromarray(frame).save(tmp_path / f"{number}.tif")
    assert refused(tmp_path) == "unknown_format"


# --- Limits ---


@pytest.mark.parametrize("name", ["a.avi", "a.gif", "frames", "a.dcm"])
def test_frames_too_few_too_many_too_small_too_large(tmp_path, name):
    def write(video):
        path = tmp_path / f"{len(video)} {video.shape[1]}" / name
        path.parent.mkdir()
        if name == "a.avi":
            return write_video(path, video, "FFV1")
        if name == "a.dcm":
            pytest.importorskip("pydicom")
            return write_dicom(path, video)
        if name == "a.gif":
            io.save_video(path, video)
            return path
        return write_frames(path, video, ".png")

    six = write(clip())
    assert refused(write(clip(1))) == "too_few_frames"
    assert refused(write(clip(2, 2, 2))) == "too_small"
    assert refused(six, limits=Limits(max_frames=5)) == "too_many_frames"
    assert refused(six, limits=Limits(max_pixels=64 * 48 - 1)) == "too_large"
    assert refused(six, limits=Limits(min_side_px=49)) == "too_small"
    assert refused(six, limits=Limits(max_exam_pixels=5 * 64 * 48)) == "too_large"
    assert len(read(six, limits=Limits(48, 64 * 48, 6, 6 * 64 * 48))[1]) == 6


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    """200 megapixels in 25 kB, as PNG and as GIF, are refused without their memory."""
    (tmp_path / "x").mkdir()
    Image.new("1", (20000, 10000)).save(tmp_path / "x" / "a.png")
    Image.new("1", (64, 64)).save(tmp_path / "x" / "b.png")
    frame = Image.new("P", (6000, 6000))
    frame.save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("P", (6000, 6000), 1)])
    read_one = write_frames(tmp_path / "warm", clip(2), ".png")
    read(read_one)  # imports are no part of the measure
    tracemalloc.start()
    assert refused(tmp_path / "x") == "too_large"
    assert refused(tmp_path / "a.gif") == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


@pytest.mark.parametrize(("kind", "count"), [("folder", 1000), ("video", 10_000)])
def test_a_long_exam_is_never_in_memory(tmp_path, kind, count):
    frame = clip(1, 32, 32)[0]
    if kind == "video":
        pytest.importorskip("av")
        path = write_video(tmp_path / "a.avi", np.broadcast_to(frame, (count, 32, 32)), "MJPG", 30)
    else:
        path = tmp_path
        Image.fromarray(frame).save(tmp_path / "0.bmp")
        for number in range(1, count):
            (tmp_path / f"{number}.bmp").hardlink_to(tmp_path / "0.bmp")
    alive: set[int] = set()
    most = 0
    with open_exam(path) as exam:
        for number, frame in enumerate(exam):
            alive.add(number)
            weakref.finalize(frame, alive.discard, number)
            most = max(most, len(alive))
    assert number == count - 1
    assert most <= 2  # the one at hand and the one before


# --- The reader ---


def open_files():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_an_unfinished_reading_closes_its_files(tmp_path):
    path = write_video(tmp_path / "a.avi", clip(), "MJPG")
    opened = open_files()
    with open_exam(path) as exam:
        next(iter(exam))
        assert open_files() != opened
    assert open_files() == opened


def test_missing_frames_at_the_end_are_noticed():
    video = clip()
    exam = ExamReader(Source("frames", lambda: iter(video[:4]), num_frames=6))
    with pytest.raises(ReadError, match="6 frames were announced and 4") as caught:
        list(exam)
    assert caught.value.reason == "truncated"


def test_every_code_that_is_raised_stands_in_the_table():
    folder = Path(io.__file__).parent
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.py"))]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {"ReadError", "ExcludedError"}
    codes = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in names and call.args
        if isinstance(call.args[0], ast.Constant)
    }
    assert "truncated" in codes
    assert codes | set(exam_module._WORDS) <= set(REASONS)


def test_errors_cross_process_borders():
    error = pickle.loads(pickle.dumps(ReadError("truncated", "It ends.")))
    assert (error.reason, str(error)) == ("truncated", "It ends.")
