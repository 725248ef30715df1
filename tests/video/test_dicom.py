"""DICOM files and series: grey values, times, sides, and nothing that names a patient."""

import dataclasses
import io as bytes_io

import numpy as np
import pytest
from PIL import Image

from ffa_sora_jax.video import images
from ffa_sora_jax.video.reading import ReadError, open_exam
from tests.video.exam_files import (
    SECONDARY_CAPTURE,
    SECRET,
    TIMES_S,
    clip,
    coloured,
    write_dicom,
)

pydicom = pytest.importorskip("pydicom")

IMPLICIT, BIG_ENDIAN, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG, JPEG_12, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 70))
JPEG_LS, JPEG_2000, MPEG4 = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 90, 102))


def read(path, **options):
    with open_exam(path, **options) as exam:
        return exam, list(exam)


def refused(path, **options):
    with pytest.raises(ReadError) as caught:
        read(path, **options)
    assert SECRET not in str(caught.value) and caught.value.__context__ is None
    return caught.value.reason


def encoded(video, kind, **options):
    frames = []
    for frame in video:
        buffer = bytes_io.BytesIO()
        Image.fromarray(frame).save(buffer, kind, **options)
        frames.append(buffer.getvalue())
    return frames


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLE])
@pytest.mark.parametrize(("top", "stored"), [(255, 8), (4095, 12), (4095, 16), (65535, 16)])
def test_grey_of_8_and_16_bits(tmp_path, syntax, top, stored):
    video = clip(top=top)
    path = write_dicom(tmp_path / "a.dcm", video, syntax=syntax, stored=stored)
    exam, frames = read(path)
    used = top.bit_length()
    assert (exam.kind, exam.num_frames, exam.bits) == ("dicom", 6, used)
    np.testing.assert_array_equal(frames, np.rint(video * (255 / top)))
    assert frames[0].dtype == np.uint8


@pytest.mark.parametrize("top", [255, 4095])
def test_monochrome1_is_turned(tmp_path, top):
    video = clip(top=top)
    bits = top.bit_length()
    path = write_dicom(tmp_path / "a.dcm", top - video, photometric="MONOCHROME1", stored=bits)
    error = np.abs(np.stack(read(path)[1]) - np.rint(video * (255 / top)))
    assert error.max() <= (0 if top == 255 else 1)  # a half may round to either side


def test_signed_grey_is_lifted_as_a_whole(tmp_path):
    video = clip(top=2047).astype(np.int16) - 1000
    exam, frames = read(write_dicom(tmp_path / "a.dcm", video, stored=12))
    low = min(0, int(video.min()))
    expected = np.rint((video.astype(float) - low) * (255 / (2**exam.bits - 1)))
    np.testing.assert_array_equal(frames, expected)
    assert exam.bits == 11


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLE])
def test_rgb(tmp_path, syntax):
    video = coloured(clip())
    path = write_dicom(tmp_path / "a.dcm", video, photometric="RGB", syntax=syntax)
    np.testing.assert_array_equal(read(path)[1], video)


def test_ybr(tmp_path):
    video = coloured(clip())
    ybr = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in video])
    path = write_dicom(tmp_path / "a.dcm", ybr, photometric="YBR_FULL")
    assert np.abs(np.stack(read(path)[1]).astype(int) - video).max() <= 3  # rounded both ways


def test_palette(tmp_path):
    video = clip()
    ramp = (np.arange(256, dtype=np.uint16) * 257).tobytes()
    tables = {}
    for colour, data in (("Red", ramp), ("Green", ramp[::-1]), ("Blue", ramp)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = data
    path = write_dicom(tmp_path / "a.dcm", video, photometric="PALETTE COLOR", **tables)
    frames = np.stack(read(path)[1])
    np.testing.assert_array_equal(frames[..., 0], video)
    np.testing.assert_array_equal(frames[..., 1], 255 - video)


@pytest.mark.parametrize(
    ("syntax", "kind", "options", "error"),
    [
        (JPEG, "JPEG", {"quality": 95}, 8),
        (JPEG_2000, "JPEG2000", {"irreversible": False, "no_jp2": True}, 0),
        (JPEG_2000, "JPEG2000", {"irreversible": False}, 0),
    ],
)
@pytest.mark.parametrize("is_colour", [False, True])
def test_jpeg_without_a_further_package(tmp_path, syntax, kind, options, error, is_colour):
    video = coloured(clip()) if is_colour else clip()
    if is_colour and kind == "JPEG2000":
        options = options | {"mct": 0}
    photometric = ("YBR_FULL" if kind == "JPEG" else "RGB") if is_colour else "MONOCHROME2"
    if kind == "JPEG":
        options = options | {"subsampling": 0}
    path = write_dicom(
        tmp_path / "a.dcm", video, syntax=syntax, photometric=photometric,
        encoded=encoded(video, kind, **options),
    )  # fmt: skip
    frames = np.stack(read(path)[1]).astype(int)
    assert np.percentile(np.abs(frames - video), 99) <= error


def test_a_jpeg_2000_box_without_length_does_not_stop_the_reader(tmp_path):
    video = clip()
    frames = encoded(video, "JPEG2000")
    frames[2] = frames[2][:12] + bytes(4) + frames[2][16:]
    path = write_dicom(tmp_path / "a.dcm", video, syntax=JPEG_2000, encoded=frames)
    assert refused(path) == "unreadable"


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS])
@pytest.mark.parametrize("top", [255, 4095])
def test_lossless_jpeg_with_gdcm(tmp_path, syntax, top):
    gdcm = pytest.importorskip("gdcm")
    video = clip(top=top)
    plain, path = str(tmp_path / "plain.dcm"), tmp_path / "a.dcm"
    write_dicom(tmp_path / "plain.dcm", video, stored=top.bit_length())
    reader = gdcm.ImageReader()
    reader.SetFileName(plain)
    assert reader.Read()
    kind = gdcm.TransferSyntax.GetTSType(syntax)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    np.testing.assert_array_equal(read(path)[1], np.rint(video * (255 / top)))


def test_what_cannot_be_decoded_is_said(tmp_path, monkeypatch):
    video = clip()
    frames = encoded(video, "JPEG")
    mpeg = write_dicom(tmp_path / "a.dcm", video, syntax=MPEG4, encoded=frames)
    assert refused(mpeg) == "needs_decoder"
    deep = write_dicom(tmp_path / "b.dcm", clip(top=4095), stored=12, syntax=JPEG_12,
                       encoded=frames)  # fmt: skip
    assert refused(deep) == "needs_decoder"
    strange = write_dicom(tmp_path / "c.dcm", video, photometric="HSV")
    assert refused(strange) == "unknown_format"
    from ffa_sora_jax.video import dicom

    monkeypatch.setattr(dicom.importlib.util, "find_spec", lambda _: None)
    assert refused(mpeg) == "needs_decoder"


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_other_encodings_of_the_file(tmp_path, syntax):
    video = clip(top=4095)
    path = write_dicom(tmp_path / "a.dcm", video, stored=12)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = syntax
    if syntax == BIG_ENDIAN:
        data.PixelData = video.astype(">u2").tobytes()
    arguments = {"implicit_vr": syntax == IMPLICIT, "little_endian": syntax != BIG_ENDIAN}
    pydicom.dcmwrite(path, data, enforce_file_format=True, **arguments)
    np.testing.assert_array_equal(read(path)[1], np.rint(video * (255 / 4095)))
    path.write_bytes(path.read_bytes()[:-500])
    assert refused(path) == "truncated"


def test_a_deflated_file_that_blows_up_is_refused(tmp_path, monkeypatch):
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", np.zeros((6, 512, 512), np.uint8)))
    data.file_meta.TransferSyntaxUID = DEFLATED
    data.save_as(tmp_path / "a.dcm")
    assert (tmp_path / "a.dcm").stat().st_size < 20_000
    assert len(read(tmp_path / "a.dcm")[1]) == 6
    monkeypatch.setattr("ffa_sora_jax.video.dicom._MAX_INFLATED_BYTES", 1_000_000)
    assert refused(tmp_path / "a.dcm") == "too_large"


def test_a_file_without_preamble(tmp_path):
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", clip()))
    bare = pydicom.Dataset()
    bare.update({tag: element for tag, element in data.items() if tag.group != 2})
    pydicom.dcmwrite(tmp_path / "b.dcm", bare, implicit_vr=True, little_endian=True)
    assert images.sniff(tmp_path / "b.dcm") == "dicom"
    np.testing.assert_array_equal(read(tmp_path / "b.dcm")[1], clip())


def test_a_secondary_capture(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", clip(), SOPClassUID=SECONDARY_CAPTURE, FrameTime=500)
    np.testing.assert_allclose(read(path)[0].times_s, np.arange(6) / 2)


# --- Times ---

STEPS_MS = [0, *(np.diff(TIMES_S) * 1000)]


@pytest.mark.parametrize(
    ("elements", "times", "times_from"),
    [
        ({}, None, None),
        ({"FrameTime": 250}, np.arange(6) / 4, "first_frame"),
        ({"CineRate": 5}, np.arange(6) / 5, "first_frame"),
        ({"FrameTimeVector": STEPS_MS}, TIMES_S, "first_frame"),
        ({"FrameTimeVector": STEPS_MS[:3]}, None, None),
        (
            {
                "FrameTimeVector": STEPS_MS,
                "AcquisitionDateTime": "20200131235958.25",
                "ContrastBolusStartTime": "235948",
            },
            TIMES_S + 10.25,
            "injection",
        ),
        (
            {
                "FrameTimeVector": STEPS_MS,
                "AcquisitionDate": "20200201",
                "AcquisitionTime": "000005",
                "ContrastBolusStartTime": "235955",  # before midnight
            },
            TIMES_S + 10,
            "injection",
        ),
        (
            {
                "FrameTimeVector": STEPS_MS,
                "AcquisitionDateTime": "20200131150000",
                "ContrastBolusStartTime": "090000",  # of the other eye, in the morning
            },
            TIMES_S,
            "first_frame",
        ),
    ],
)
def test_times_of_a_file(tmp_path, elements, times, times_from):
    exam, _ = read(write_dicom(tmp_path / "a.dcm", clip(), **elements))
    assert exam.times_from == times_from
    if times is None:
        assert exam.times_s is None
    else:
        np.testing.assert_allclose(exam.times_s, times, atol=1e-6)


def test_times_of_functional_groups(tmp_path):
    groups = []
    for time in TIMES_S:
        content = pydicom.Dataset()
        content.FrameAcquisitionDateTime = f"202001311200{time:09.6f}"
        group = pydicom.Dataset()
        group.FrameContentSequence = [content]
        groups.append(group)
    path = write_dicom(tmp_path / "a.dcm", clip(), PerFrameFunctionalGroupsSequence=groups)
    np.testing.assert_allclose(read(path)[0].times_s, TIMES_S, atol=1e-6)


# --- Series ---


def write_series(folder, video, clocks=None, numbers=None, name="{}.dcm", **elements):
    folder.mkdir(exist_ok=True)
    for i, frame in enumerate(video):
        own = dict(elements)
        if clocks is not None:
            own["AcquisitionDateTime"] = f"202001311200{clocks[i]:09.6f}"
        if numbers is not None:
            own["InstanceNumber"] = numbers[i]
        write_dicom(folder / name.format(i), frame[None], **own)
    return folder


SHUFFLED = [3, 0, 5, 1, 4, 2]


def test_a_series_is_ordered_by_time_then_number_then_name(tmp_path):
    video = clip()
    by_time = write_series(tmp_path / "a", video[SHUFFLED], clocks=TIMES_S[SHUFFLED],
                           numbers=[1, 2, 3, 4, 5, 6])  # fmt: skip
    exam, frames = read(by_time)
    assert (exam.kind, exam.num_frames) == ("dicom_series", 6)
    np.testing.assert_allclose(exam.times_s, TIMES_S, atol=1e-6)
    np.testing.assert_array_equal(frames, video)
    numbers = [i + 1 for i in SHUFFLED]
    by_number = write_series(tmp_path / "b", video[SHUFFLED], numbers=numbers)
    exam, frames = read(by_number)
    assert exam.times_s is None
    np.testing.assert_array_equal(frames, video)
    by_name = write_series(tmp_path / "c", video)
    np.testing.assert_array_equal(read(by_name)[1], video)
    order = [f"{i}.dcm" for i in (4, 1, 2)]
    np.testing.assert_array_equal(read(by_name, order=order)[1], video[[4, 1, 2]])


def test_one_time_for_the_whole_series_is_none(tmp_path):
    series = write_series(tmp_path / "a", clip(), clocks=[5] * 6, numbers=range(6))
    assert read(series)[0].times_s is None


def test_files_of_several_frames_follow_each_other(tmp_path):
    video = clip()
    for i, second in ((0, 30), (1, 10)):
        write_dicom(tmp_path / f"{i}.dcm", video[3 * i : 3 * i + 3], FrameTime=2000,
                    AcquisitionDateTime=f"202001311200{second}")  # fmt: skip
    exam, frames = read(tmp_path)
    np.testing.assert_allclose(exam.times_s, [0, 2, 4, 20, 22, 24])
    np.testing.assert_array_equal(frames, video[[3, 4, 5, 0, 1, 2]])


def test_names_of_a_series_may_be_numbers(tmp_path):
    series = write_series(tmp_path / "a", clip(), name="1.2.276.0.7.{}")
    assert read(series)[0].notes == ()


def test_two_patients_and_two_eyes_in_one_folder(tmp_path):
    video = clip()
    both = write_series(tmp_path / "a", video[:3], ImageLaterality="R")
    write_series(both, video[3:], ImageLaterality="L", name="l{}.dcm")
    assert refused(both) == "eye_conflict"
    exam, frames = read(both, eye="left")
    assert exam.eye == "left"
    np.testing.assert_array_equal(frames, video[3:])
    assert exam.notes == ()
    write_series(both, video[:2], name="x{}.dcm")  # of either eye
    exam, frames = read(both, eye="left")
    assert (exam.notes, len(frames)) == (("extra_files",), 3)
    strangers = write_series(tmp_path / "b", video[:3])
    write_series(strangers, video[3:], name="s{}.dcm", PatientID=SECRET)
    assert refused(strangers) == "patient_conflict"


def test_a_file_that_names_both_eyes_is_refused(tmp_path):
    file = write_dicom(tmp_path / "a.dcm", clip(), ImageLaterality="R", Laterality="L")
    assert refused(file) == "eye_conflict"
    file = write_dicom(tmp_path / "b.dcm", clip(), ImageLaterality="B", Laterality="L")
    assert read(file)[0].eye is None


def test_directories_and_reports_beside_a_series_are_noted(tmp_path):
    series = write_series(tmp_path / "a", clip())
    data = pydicom.dcmread(series / "0.dcm", stop_before_pixels=True)
    for keyword in ("Rows", "Columns"):
        del data[keyword]
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"  # a structured report
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.save_as(series / "report.dcm")
    exam, frames = read(series)
    assert (exam.notes, len(frames)) == (("extra_files",), 6)
    assert refused(series / "report.dcm") == "unknown_format"


# --- What is said about the patient ---


@pytest.mark.parametrize(
    ("elements", "eye"),
    [({"ImageLaterality": "R"}, "right"), ({"Laterality": "L"}, "left"), ({}, None),
     ({"ImageLaterality": "B"}, None), ({"ImageLaterality": "R", "Laterality": "R"}, "right")],
)  # fmt: skip
def test_the_eye(tmp_path, elements, eye):
    assert read(write_dicom(tmp_path / "a.dcm", clip(), **elements))[0].eye == eye


@pytest.mark.parametrize(("value", "expected"), [("YES", True), ("NO", False), (None, None)])
def test_burned_in_annotation(tmp_path, value, expected):
    elements = {} if value is None else {"BurnedInAnnotation": value}
    assert read(write_dicom(tmp_path / "a.dcm", clip(), **elements))[0].burned_in is expected


def test_identifying_elements_are_named_and_not_carried(tmp_path):
    path = write_dicom(tmp_path / f"{SECRET}.dcm", clip(), AcquisitionDateTime="20200131120000")
    exam, _ = read(path)
    assert set(exam.removed) == {
        "AcquisitionDateTime",
        "InstitutionName",
        "MediaStorageSOPInstanceUID",
        "PatientBirthDate",
        "PatientID",
        "PatientName",
        "PrivateElements",
        "SOPInstanceUID",
    }  # fmt: skip - an empty accession number says nothing
    public = {key: value for key, value in vars(exam).items() if key not in ("source", "_open")}
    stated = {field.name: getattr(exam.source, field.name) for field in
              dataclasses.fields(exam.source) if field.name != "frames"}  # fmt: skip
    assert SECRET not in repr((public, stated)) and "1950" not in repr((public, stated))


def test_a_bad_value_is_not_repeated(tmp_path, caplog, recwarn):
    path = write_dicom(tmp_path / "a.dcm", clip())
    raw = path.read_bytes().replace(b"19500101", SECRET.encode()[:8].ljust(8))
    path.write_bytes(raw.replace(b"MONOCHROME2 ", SECRET.encode().ljust(12)))
    assert refused(path) in ("unreadable", "unknown_format")
    assert SECRET not in caplog.text and not recwarn.list


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLE])
def test_cut_files_are_refused_when_they_are_opened(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", clip(), syntax=syntax)
    whole = path.read_bytes()
    for length in (*range(133, 900, 61), len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ReadError) as caught:
            open_exam(path)
        assert caught.value.reason == "truncated"
