"""The one table of reason codes: why an exam, a row or a pair of clips was not simply kept.

Every reading, cleaning, table, split and leakage step reports by these codes, the build report
counts them, and docs/curation.md lists them. `status` says what happens to the exam: "dropped" is
left out, "quarantined" is left out until a person has looked at it, "noted" is kept and reported.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ffa_sora_jax.common.names import unknown_name

STATUSES = ("dropped", "quarantined", "noted")


@dataclass(frozen=True)
class Reason:
    """One code: what happens to the exam, what it means, what to do."""

    code: str
    status: str
    meaning: str
    what_to_do: str


_ROWS = (
    # Files
    ("empty_file", "dropped", "The file has no bytes.", "Export it again."),
    ("truncated", "dropped", "The file ends before its content does.", "Export it again."),
    ("unreadable", "dropped", "The file is damaged or cannot be opened.", "Export it again."),
    ("encrypted", "dropped", "The file is encrypted.", "Export it without a password."),
    (
        "wrong_extension",
        "noted",
        "The content is of another format than the file's name says; the content was believed.",
        "Nothing, or rename the file.",
    ),
    (
        "unknown_format",
        "dropped",
        "Neither an image, a video, an animation nor DICOM.",
        "Export it as PNG, JPEG, TIFF, BMP, MP4, MOV, AVI, MKV, WebM, GIF, WebP or DICOM.",
    ),
    (
        "needs_decoder",
        "dropped",
        "The DICOM file is compressed in a way that no installed package decodes.",
        "pip install 'ffa-sora-jax[dicom]', or export it uncompressed.",
    ),
    (
        "extra_files",
        "noted",
        "Beside the frames the folder holds other files or folders, which were not read.",
        "Check that no frame is among them.",
    ),
    (
        "disk_full",
        "dropped",
        "No space was left while the exam was written.",
        "Free space and run the same command again; finished exams are kept.",
    ),
    (
        "time_limit",
        "quarantined",
        "The exam took longer than --time-limit.",
        "Raise --time-limit, or split the exam; the next run tries it again.",
    ),
    (
        "worker_died",
        "quarantined",
        "The process that worked on the exam was killed or crashed.",
        "Try fewer --workers if memory ran out; the next run tries it again.",
    ),
    (
        "internal_error",
        "quarantined",
        "The program failed on this exam; the build report names the place in the source.",
        "Report it with that place; the other exams are not affected.",
    ),
    # Frames
    (
        "too_few_frames",
        "dropped",
        "Fewer than two usable frames.",
        "Check that the whole exam was exported.",
    ),
    (
        "too_many_frames",
        "dropped",
        "More frames than the limit that was set.",
        "Raise the limit, or split the exam.",
    ),
    ("too_small", "dropped", "Frames are too small to show vessels.", "Export at full size."),
    ("too_large", "dropped", "Frames are larger than the limit that was set.", "Raise the limit."),
    (
        "mixed_sizes",
        "noted",
        "Frames differ in size; each was scaled to the field of the first.",
        "Check that the folder holds one exam.",
    ),
    (
        "no_field_of_view",
        "dropped",
        "No bright field on a dark ground was found.",
        "Check that the file is an angiogram.",
    ),
    (
        "no_ffa_frames",
        "dropped",
        "Colour, infrared or red-free frames only.",
        "Check that the file is an angiogram.",
    ),
    (
        "low_vessel_area",
        "dropped",
        "A frame's vessel-area ratio lies below the threshold.",
        "Use --vessel-filter drop_frames to drop such frames and keep the exam.",
    ),
    (
        "burned_in_text",
        "quarantined",
        "Text seems to be burned into the picture.",
        "Look at the exam; export it without annotations if it shows a name, a number or a date.",
    ),
    # Table
    (
        "bad_row",
        "dropped",
        "The row lacks a required value or holds one that is not allowed.",
        "Correct the row; the columns are listed in docs/curation.md.",
    ),
    ("empty_report", "dropped", "The report is empty.", "Add the report, or remove the row."),
    (
        "duplicate_exam_id",
        "dropped",
        "Several rows have this exam id; the first one was kept.",
        "Keep one row per exam.",
    ),
    (
        "patient_conflict",
        "dropped",
        "Rows with one exam id name different patients; none of them was kept.",
        "Correct the exam id or the patient id.",
    ),
    (
        "split_conflict",
        "dropped",
        "The rows of one patient name different splits; none of them was kept.",
        "Give all rows of a patient the same split.",
    ),
    (
        "report_overlap",
        "noted",
        "The split column puts rows with one report and no patient id into different splits.",
        "Add patient ids if it may be one patient.",
    ),
    (
        "eye_conflict",
        "quarantined",
        "Table, DICOM file and report name different eyes.",
        "Find out which is right and correct the others.",
    ),
    (
        "identifier_suspected",
        "noted",
        "The report may hold a name, a date, a telephone number or a record number.",
        "Read the report; --clean-text removes what was found.",
    ),
    # Table and folder
    (
        "row_without_exam",
        "dropped",
        "No file or folder matches the row.",
        "Name the file or folder after the exam id, or fill the path column.",
    ),
    (
        "exam_without_row",
        "dropped",
        "No usable row of the table points to the file or folder.",
        "Add a row or correct the one that was refused, or remove the exam.",
    ),
    (
        "ambiguous_exam",
        "dropped",
        "Several files or folders match the row.",
        "Keep one of them, or name the right one in the path column.",
    ),
    (
        "shared_exam",
        "dropped",
        "Several rows point to the same file or folder; the first one was kept.",
        "Correct the path column.",
    ),
    (
        "outside_root",
        "dropped",
        "The path leads out of the exam folder.",
        "Move the exam into the exam folder.",
    ),
    ("symlink_loop", "dropped", "A link leads back to itself.", "Replace it by the exam."),
    (
        "name_too_long",
        "dropped",
        "The name is longer than file systems allow.",
        "Shorten the exam id or the path.",
    ),
    # Clips
    (
        "near_duplicate",
        "noted",
        "Almost the same clip exists for another patient or in another split.",
        "Remove one of them, give both the same patient id, or allow it with --allow-duplicates.",
    ),
)


@dataclass(frozen=True)
class Problem:
    """One thing that was noticed. Holds nothing of the exam but where it stands.

    Attributes:
      reason: a code of `REASONS`.
      where: "line 12" of the table, or "entry 17" of the exam folder in natural order.
      what_to_do: advice; never a value of the table, a file name or an id.
    """

    reason: str
    where: str
    what_to_do: str

    @classmethod
    def at(cls, code: str, where: str, detail: str = "") -> "Problem":
        """A problem with the advice of the table of reasons, after an optional detail."""
        return cls(code, where, f"{detail} {reason(code).what_to_do}".strip())

    @property
    def status(self) -> str:
        """What happens to the exam: one of `STATUSES`."""
        return reason(self.reason).status


REASONS: dict[str, Reason] = {row[0]: Reason(*row) for row in _ROWS}


def reason(code: str) -> Reason:
    """The entry of one code. ValueError for an unknown one, with near matches."""
    if code not in REASONS:
        raise ValueError(unknown_name("reason code", code, REASONS))
    return REASONS[code]


def as_markdown(codes: Iterable[str] = tuple(REASONS)) -> str:
    """The table as it stands in docs/curation.md."""
    lines = ["| code | what happens | meaning | what to do |", "|---|---|---|---|"]
    for code in codes:
        entry = reason(code)
        lines.append(f"| `{code}` | {entry.status} | {entry.meaning} | {entry.what_to_do} |")
    return "\n".join(lines)
