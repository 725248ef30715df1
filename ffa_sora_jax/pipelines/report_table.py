"""Reports that another program wrote, read from a file, behind the call of `VideoToReport`.

What is judged by its report needs something that gives a report for a video: the captioner of this
package, or a table made elsewhere. Both are called in the same way,

    report_of = open_reporter(given)          # None, a model folder, or a table
    texts = report_of.reports(names, videos)  # videos: functions that read them, used or not
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np

from ffa_sora_jax.common import tables

NAME_COLUMNS = ("id", "exam", "exam_id", "video", "name", "file")
TEXT_COLUMNS = ("report", "text", "caption", "generated_report")


class Reporter(Protocol):
    """What gives reports for videos."""

    @property
    def fingerprint(self) -> str:
        """Differs where other reports may come out."""
        ...

    def reports(
        self, names: Sequence[str], videos: Sequence[Callable[[], np.ndarray]]
    ) -> list[str]:
        """One report per video.

        Args:
          names: names of the videos, without folder and ending.
          videos: functions that read them, (t, h, w) or (t, h, w, c) uint8.

        Raises:
          ValueError: a video without a report.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """Reports by the name of their video or exam.

    Attributes:
      texts: report by name.
      where: the file, for messages.
    """

    texts: Mapping[str, str]
    where: str

    @classmethod
    def read(cls, path: str | Path) -> "ReportTable":
        """Reads a table: CSV with a header, or JSON Lines.

        One column names the video or exam (`NAME_COLUMNS`), one holds the text (`TEXT_COLUMNS`);
        others are passed over. A name may have a folder and an ending, which do not count. A text
        may be empty: a captioner may write nothing.

        Raises:
          FileNotFoundError: no such file.
          ValueError: another kind of file, a column missing or there twice, a row that cannot be
            read, or a name that is empty or comes twice.
        """
        path = Path(path)
        texts: dict[str, str] = {}
        lines: dict[str, str] = {}
        for record in tables.read(path).records:
            where = f"{path}, {record.where}"
            if record.fields is None:
                raise ValueError(f"{where}: {record.reason}.")
            name = plain_name(_one_of(record.fields, NAME_COLUMNS, where))
            if not name:
                raise ValueError(f"{where}: the report has no name.")
            if name in texts:
                raise ValueError(
                    f"{where}: {name!r} comes twice, first in {lines[name]}; folders and endings "
                    "do not count."
                )
            texts[name] = _one_of(record.fields, TEXT_COLUMNS, where)
            lines[name] = record.where
        if not texts:
            raise ValueError(f"{path} holds no reports.")
        return cls(texts, str(path))

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 of names and texts."""
        content = json.dumps(sorted(self.texts.items()), ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def reports(
        self, names: Sequence[str], videos: Sequence[Callable[[], np.ndarray]] = ()
    ) -> list[str]:
        """The texts of these names; the videos are not looked at.

        Raises:
          ValueError: names without a report; lists the first of them.
        """
        del videos
        known = self.known(names)
        if missing := sorted({plain_name(name) for name in names if name not in known}):
            raise ValueError(
                f"{self.where} has no report for {len(missing)} of {len(names)} videos, such as "
                f"{', '.join(missing[:3])}; its names are like {sorted(self.texts)[0]!r}."
            )
        return [known[name] for name in names]

    def known(self, names: Iterable[str]) -> dict[str, str]:
        """The texts of those of these names that have one, by the name as it is given."""
        return {name: self.texts[key] for name in names if (key := plain_name(name)) in self.texts}


def open_reporter(given: str | Path | None = None) -> Reporter:
    """The captioner that ships (None), that of a model folder, or a table of reports.

    Raises:
      FileNotFoundError, ValueError: see `VideoToReport.from_pretrained` and `ReportTable.read`.
    """
    if given is not None and Path(given).suffix.lower() in tables.ENDINGS:
        return ReportTable.read(given)
    from ffa_sora_jax.pipelines.video_to_report import VideoToReport  # loads jax

    return VideoToReport.from_pretrained(given)


def plain_name(name: str) -> str:
    """The name of a video without folder and ending: "a/case 3.mp4" -> "case 3"."""
    path = PurePath(name.strip())
    known = (".mp4", ".webp", ".gif", ".avi", ".mov", ".mkv", ".webm", ".png", ".dcm")
    return path.stem if path.suffix.lower() in known else path.name


def _one_of(record: Mapping[str, Any], columns: Sequence[str], where: str) -> str:
    """The value of the one column of these that a record has."""
    found = [column for column in columns if column in record]
    if len(found) != 1:
        raise ValueError(
            f"{where}: one column of {', '.join(columns)} is needed, found "
            f"{', '.join(found) or 'none'} among {', '.join(map(str, record))}."
        )
    value = record[found[0]]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{where}: {found[0]} is {value!r}, which is no text.")
    return str(value).strip()
