"""What goes wrong in archives and tables, each with the reason that must come out."""

import zipfile
from pathlib import Path

import numpy as np

from tests.corpus import formats, good, pictures
from tests.corpus.case import Case, Write

# DER: a sequence that begins with the object identifier of CMS enveloped data.
ENVELOPE = bytes.fromhex("30820fb0 0609 2a864886f70d010703")
OTHER_PHANTOM = 1000  # of a patient that no other exam is of
LEFT = "exam_without_row"  # of a file whose own row points nowhere
LONG = "a-very-long-name-" * 14  # 238 bytes


def cases(many_frames: int = 150, large_px: int = 4000) -> list[Case]:
    """More than 25 kinds. `many_frames`, `large_px`: how far the big ones go."""
    return [*_files(), *_contents(many_frames, large_px), *_rows()]


def near_duplicate() -> Case:
    """The exam of patient 0 once more, by another camera export, under another patient."""
    return Case("near duplicate", _brighter, remarks=("near_duplicate",), phantom=0)


# --- Files ---


def bytes_of(suffix: str, data: bytes) -> Write:
    def write(path: Path, _: int) -> None:
        path.with_name(path.name + suffix).write_bytes(data)

    return write


def cut(write: Write, share: float) -> Write:
    """What `write` makes, without the end of every file."""

    def write_cut(path: Path, phantom: int) -> None:
        write(path, phantom)
        for file in _made(path):
            data = file.read_bytes()
            file.write_bytes(data[: int(share * len(data))])

    return write_cut


def renamed(write: Write, suffix: str) -> Write:
    def write_renamed(path: Path, phantom: int) -> None:
        write(path, phantom)
        (file,) = _made(path)
        file.rename(path.with_name(path.name + suffix))

    return write_renamed


def _made(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.iterdir())
    return sorted(path.parent.glob(path.name + ".*"))


def _half_written_frame(path: Path, phantom: int) -> None:
    """A corrupt frame in the middle of a folder."""
    good.folder(".png")(path, phantom)
    frame = path / "005.png"
    frame.write_bytes(frame.read_bytes()[:900])


def _flipped(path: Path, phantom: int) -> None:
    """A PNG whose data were overwritten in the middle of one frame."""
    good.folder(".png")(path, phantom)
    frame = path / "004.png"
    data = bytearray(frame.read_bytes())
    data[1000:1400] = bytes(400)
    frame.write_bytes(data)


def _encrypted_zip(path: Path, phantom: int) -> None:
    """An archive whose header says that its member is encrypted."""
    target = path.with_name(path.name + ".zip")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("exam.mp4", bytes(2000))
    data = bytearray(target.read_bytes())
    data[6] |= 1  # general purpose flags of the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1
    target.write_bytes(data)


def _with_encrypted_tags(path: Path, phantom: int) -> None:
    """Pixels in the clear, the patient in an encrypted element that must go: sound."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    target = path.with_name(path.name + ".dcm")
    ds = formats.dicom(target, pictures.clip(phantom), phantom)
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = "1.2.840.10008.1.2.1"
    item.EncryptedContent = bytes(range(256))
    ds.EncryptedAttributesSequence = Sequence([item])
    ds.save_as(target, enforce_file_format=True)


def _loop(path: Path, _: int) -> None:
    path.symlink_to(path.name)


def _loop_of_folders(path: Path, phantom: int) -> None:
    """A folder of frames that also holds a link to itself."""
    good.folder(".png")(path, phantom)
    (path / "again").symlink_to("../" + path.name)


def _link_out(path: Path, phantom: int) -> None:
    """A link to an exam that lies outside the exam folder."""
    away = path.parent.parent / f"away-{phantom}"
    good.folder(".png")(away, phantom)
    path.symlink_to(away)


def _with_letter(path: Path, phantom: int) -> None:
    """A letter to the patient beside the frames."""
    good.folder(".png")(path, phantom)
    (path / "letter.pdf").write_bytes(b"%PDF-1.7\nDear Mrs Nightingale\n")


def _dangling(path: Path, _: int) -> None:
    path.with_name(path.name + ".mp4").symlink_to("no-longer-there.mp4")


def _empty_folder(path: Path, _: int) -> None:
    path.mkdir()


def _files() -> list[Case]:
    mp4, png = good.video(".mp4", "libx264"), good.folder(".png")
    noise = np.random.default_rng(5).bytes(4000)
    return [
        Case("zero bytes, MP4", bytes_of(".mp4", b""), "empty_file"),
        Case("zero bytes, every frame", cut(png, 0), "empty_file"),
        Case("empty folder", _empty_folder, "too_few_frames"),
        Case("truncated MP4", cut(mp4, 0.6), "truncated"),
        Case("truncated AVI", cut(good.video_cv2(".avi", "MJPG"), 0.5), "truncated"),
        Case("truncated GIF", cut(good.pages(".gif"), 0.5), "truncated"),
        Case("truncated WebP", cut(good.pages(".webp", lossless=True), 0.5), "truncated"),
        Case("truncated DICOM", cut(good.dicom(), 0.5), "truncated"),
        Case("truncated DICOM, RLE", cut(good.dicom(syntax="rle"), 0.5), "truncated"),
        Case("truncated PNG in the middle", _half_written_frame, "truncated"),
        Case("corrupt PNG in the middle", _flipped, "unreadable"),
        Case("noise called MP4", bytes_of(".mp4", noise), "unknown_format"),
        Case("noise called DICOM", bytes_of(".dcm", noise), "unknown_format"),
        Case("encrypted ZIP", _encrypted_zip, "encrypted"),
        Case("encrypted DICOM", bytes_of(".dcm", ENVELOPE + noise), "encrypted"),
        Case("DICOM with encrypted tags", _with_encrypted_tags),
        Case("PDF called MP4", bytes_of(".mp4", b"%PDF-1.7\nNightingale\n"), "unknown_format"),
        Case("text file only", bytes_of(".txt", b"Patient Nightingale\n"), "row_without_exam"),
        Case("link to itself", _loop, "symlink_loop"),
        Case("link to a missing file", _dangling, "unreadable"),
        Case("folder with a link to itself", _loop_of_folders, "symlink_loop"),
        Case("link out of the folder", _link_out, "outside_root"),
        Case("letter beside the frames", _with_letter, remarks=("extra_files",)),
        Case("MP4 called AVI", renamed(mp4, ".avi"), remarks=("wrong_extension",)),
        Case("GIF called MP4", renamed(good.pages(".gif"), ".mp4"), remarks=("wrong_extension",)),
        Case("DICOM called PNG", renamed(good.dicom(), ".png"), remarks=("wrong_extension",)),
        Case("unicode name", png, name="检查 Ünïcødé Nightingale’s 右眼 🩺", rows=({"path": "*"},)),
        Case("very long name", png, name=LONG, rows=({"path": "*"},)),
    ]


# --- Contents ---


def many(count: int) -> Write:
    """Very many small frames: a clip that goes forth and back."""

    def write(path: Path, phantom: int) -> None:
        clip = pictures.clip(phantom)
        order = np.abs((np.arange(count) % (2 * len(clip) - 2)) - (len(clip) - 1))
        formats.video(path.with_name(path.name + ".avi"), clip[order], "mjpeg", pix_fmt="yuvj420p")

    return write


def one_pixel(path: Path, _: int) -> None:
    formats.frames(path, np.full((8, 1, 1), 90, np.uint8), ".png")


def large(side: int) -> Write:
    """Two frames far larger than any camera's."""

    def write(path: Path, phantom: int) -> None:
        clip = pictures.clip(phantom, count=2)
        formats.frames(path, pictures.resized(clip, side, side * 9 // 16), ".jpg")

    return write


def mixed_sizes(path: Path, phantom: int) -> None:
    clip = pictures.clip(phantom)
    path.mkdir(parents=True)
    for number, frame in enumerate(clip):
        side = 96 if number < 5 else 120
        picture = pictures.resized(frame[None], side, side)[0]
        formats.image(path / f"{number:02d}.png", picture)


def _brighter(path: Path, phantom: int) -> None:
    clip = pictures.clip(phantom).astype(np.float64) * 1.06 + 2 * (pictures.clip(phantom) > 8)
    formats.frames(path, clip.clip(0, 255).astype(np.uint8), ".jpg")


def _mixed_kinds(path: Path, phantom: int) -> None:
    """Colour photographs before the angiogram: they are recognised and left out."""
    clip = pictures.clip(phantom)
    formats.frames(path, np.concatenate([pictures.colour(clip[:2]), pictures.rgb(clip)]), ".png")


def _contents(many_frames: int, large_px: int) -> list[Case]:
    def strip(video: np.ndarray) -> np.ndarray:
        return pictures.with_strip(video, "NIGHTINGALE OD")

    def text_inside(video: np.ndarray) -> np.ndarray:
        big = pictures.resized(video, 192, 192)
        return pictures.with_text_inside(big, ("PLANTA 5550199", "12.06.1947"))

    def no_vessels(video: np.ndarray) -> np.ndarray:
        return pictures.featureless(len(video), video.shape[1])

    def dark(video: np.ndarray) -> np.ndarray:
        return video // 64

    return [
        Case("one frame", good.folder(".png", count=1), "too_few_frames"),
        Case("video of one frame", good.video(".mp4", "libx264", count=1), "too_few_frames"),
        Case("DICOM of one frame", _one_frame_dicom, "too_few_frames"),
        Case("very many frames", many(many_frames)),
        Case("1 px", one_pixel, "too_small"),
        Case("very large frames", large(large_px)),
        Case("8k frames", large(7680), "too_large"),
        Case("mixed sizes", mixed_sizes, remarks=("mixed_sizes",)),
        Case("black", good.folder(".png", dark), "no_field_of_view"),
        Case("colour photographs only", good.folder(".png", pictures.colour), "no_ffa_frames"),
        Case("colour photographs first", _mixed_kinds),
        Case("no vessels", good.folder(".png", no_vessels), "low_vessel_area"),
        Case("blink and flash inside", good.folder(".png", pictures.with_blinks)),
        Case("strip of text below the field", good.folder(".png", strip)),
        Case(
            "text inside the field", good.folder(".png", text_inside), "burned_in_text",
            "quarantined",
        ),
        Case(
            "DICOM says text is burned in", good.dicom(burned_in=True), "burned_in_text",
            "quarantined",
        ),
    ]  # fmt: skip


def _one_frame_dicom(path: Path, phantom: int) -> None:
    target = path.with_name(path.name + ".dcm")
    formats.dicom(target, pictures.clip(phantom, count=1), phantom)


# --- Tables ---


def _other_eye(path: Path, phantom: int) -> None:
    eye = "L" if pictures.exam(phantom).eye == "right" else "R"
    formats.dicom(path.with_name(path.name + ".dcm"), pictures.clip(phantom), phantom, eye=eye)


def _rows() -> list[Case]:
    png = good.folder(".png")
    both = ("patient_conflict", "patient_conflict")
    split = {"patient_id": "PX-0815-two", "split": "train"}
    splits = (split, {**split, "split": "test", "exam_id": "NX-4711-split"})
    report = {"patient_id": "", "report": "Veins and arteries fill on time.", "split": "train"}
    reports = (report, {**report, "split": "validation", "exam_id": "NX-4711-again"})
    path = {"path": "*"}
    return [
        Case("row without exam", None, "row_without_exam"),
        Case("exam without row", png, "exam_without_row", rows=()),
        Case("one id twice", png, rows=({}, {}), expected=("", "duplicate_exam_id")),
        Case(
            "two patients with one id", png, rows=({}, {"patient_id": "PX-0815-999"}),
            expected=both,
        ),
        Case(
            "a patient in two splits", _twice_named, rows=splits,
            expected=("split_conflict", "split_conflict"),
        ),
        Case(
            "one report in two splits, no patient", _two_eyes, rows=reports,
            remarks=("report_overlap",), phantom=OTHER_PHANTOM + 1,
        ),
        Case(
            "two rows, one path", png, rows=(path, {**path, "exam_id": "NX-4711-path"}),
            expected=("", "shared_exam"),
        ),
        Case("other eye in DICOM", _other_eye, "eye_conflict", "quarantined"),
        Case("other eye in the report", png, "eye_conflict", "quarantined", rows=({"eye": "~"},)),
        Case("eye of unknown meaning", png, "bad_row", rows=({"eye": "both of them"},), extra=LEFT),
        Case("empty report", png, "empty_report", rows=({"report": "  "},), extra=LEFT),
        Case(
            "path out of the folder", png, "outside_root", rows=({"path": "../outside"},),
            extra=LEFT,
        ),
        Case("absolute path", None, "outside_root", rows=({"path": "/etc"},)),
        Case("name too long", None, "name_too_long", rows=({"path": "x" * 300},)),
        Case("no exam id", None, "bad_row", rows=({"exam_id": ""},)),
        Case("two files for one row", _two_files, "ambiguous_exam"),
        Case("name and date in the report", png, rows=(
            {"report": "Patient: Nightingale Planta, MRN5550199, 2019-08-23. Right or left: see "
             "the table. Retinal arteries and veins fill on time. No leakage was seen."},
        )),
    ]  # fmt: skip


def _twice_named(path: Path, phantom: int) -> None:
    good.folder(".png")(path, phantom)
    good.folder(".png")(path.with_name("NX-4711-split"), phantom)


def _two_eyes(path: Path, phantom: int) -> None:
    good.folder(".png")(path, phantom)
    good.folder(".png")(path.with_name("NX-4711-again"), OTHER_PHANTOM)


def _two_files(path: Path, phantom: int) -> None:
    good.video(".mp4", "libx264")(path, phantom)
    good.video_cv2(".avi", "MJPG")(path, phantom)
