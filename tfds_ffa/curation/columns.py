"""The schema of a table of reports: columns, their other names, and what their values mean."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ffa_sora_jax.common.names import check_keys

# Field -> accepted headings, compared without case, spaces and punctuation.
ALIASES: dict[str, tuple[str, ...]] = {
    "exam_id": (
        "exam_id", "exam", "exam_no", "exam_number", "examination_id", "examination_no",
        "study_id", "study", "study_no", "study_number", "accession_number", "accession_no",
        "accession", "case_id", "case", "video_id", "id",
        "检查号", "检查编号", "检查ID", "检查流水号", "影像号", "檢查號", "檢查編號",
    ),
    "patient_id": (
        "patient_id", "patient", "patient_no", "patient_number", "patient_code", "pid", "mrn",
        "mrn_no", "subject_id", "subject", "subject_no", "medical_record_number",
        "medical_record_no", "hospital_number", "hospital_no",
        "病人ID", "患者ID", "患者编号", "病人编号", "患者号", "病人号", "病历号", "病案号",
        "登记号", "病歷號", "病歷號碼",
    ),
    "eye": ("eye", "laterality", "side", "eye_side", "眼别", "眼", "左右眼", "侧别", "眼別"),
    "report": (
        "report", "report_en", "en_report", "report_text", "text", "caption", "findings",
        "impression", "报告", "报告内容", "检查所见", "造影所见", "检查结果", "報告", "檢查所見",
    ),
    "report_zh": ("report_zh", "zh_report", "ch_report", "chinese_report", "report_cn", "中文报告"),
    "language": ("language", "lang", "语言"),
    "diagnosis": ("diagnosis", "disease", "label", "诊断", "临床诊断", "疾病", "診斷"),
    "split": ("split", "subset", "partition", "划分", "数据集划分"),
    "path": (
        "path", "file", "file_name", "folder", "image_path", "video_path", "路径",
        "文件", "文件名",
    ),
    "frame_order": ("frame_order", "frames", "frame_files", "帧顺序"),
}  # fmt: skip

EYES = {
    "right": ("right", "r", "rt", "od", "right eye", "re", "右", "右眼"),
    "left": ("left", "l", "lt", "os", "left eye", "le", "左", "左眼"),
    "both": ("both", "b", "ou", "both eyes", "bilateral", "双", "双眼", "雙眼", "两眼", "左右眼"),
}
LANGUAGES = {
    "en": ("en", "eng", "english", "en us", "en gb", "英", "英文", "英语"),
    "zh": ("zh", "cn", "chi", "chinese", "zh cn", "zh hans", "zh tw", "中", "中文", "汉语"),
}
SPLITS = {
    "train": ("train", "training", "训练", "训练集"),
    "validation": ("validation", "valid", "val", "dev", "验证", "验证集"),
    "test": ("test", "testing", "测试", "测试集"),
    "unseen": ("unseen", "held out", "未见"),
}
NOTHING = ("", "na", "n a", "nan", "none", "null", "nil", "unknown", "未知", "不详", "无")


@dataclass(frozen=True)
class Columns:
    """Where each field stands in a table: position of its column, by field."""

    at: Mapping[str, int]
    width: int

    @property
    def unused(self) -> tuple[int, ...]:
        """Numbers of the columns that are never read, counted from 1."""
        return tuple(sorted(set(range(1, self.width + 1)) - {at + 1 for at in self.at.values()}))


def find_columns(header: Sequence[str], wanted: Mapping[str, str] | None = None) -> Columns:
    """The position of every field in a table's heading.

    Args:
      header: the headings in order.
      wanted: field -> heading, where the heading is not one of `ALIASES`.

    Raises:
      ValueError: unknown field, missing heading, two headings for one field, two columns of
        reports, no report column, or neither exam id nor path. Headings found in the file are not
        repeated unless they are known: a table without headings starts with a patient.
    """
    check_keys("column", wanted or {}, ALIASES)
    keys = [_key(text) for text in header]
    at: dict[str, int] = {}
    for field, heading in (wanted or {}).items():
        at[field] = _only_column(field, keys, [_key(heading)])
        if at[field] < 0:
            raise ValueError(f"No column is called {heading!r}, which was asked for as {field}.")
    if len(set(at.values())) < len(at):
        raise ValueError(f"A column was asked for twice: {dict(wanted or {})}.")
    free = ["" if position in at.values() else key for position, key in enumerate(keys)]
    for field, names in ALIASES.items():
        if field not in at:
            found = _only_column(field, free, [_key(name) for name in names])
            at |= {field: found} if found >= 0 else {}
    if "report" not in at and "report_zh" not in at:
        raise ValueError(_missing("report", len(header)))
    if "exam_id" not in at and "path" not in at:
        raise ValueError(_missing("exam_id", len(header)))
    return Columns(at, len(header))


def _only_column(field: str, keys: Sequence[str], names: Sequence[str]) -> int:
    """The column that has the first of the names that any has; -1 where there is none.

    The first name is the field's own: `id` beside `exam_id` is no second exam id. Two other columns
    of reports may each hold half of the text, such as findings and impression: neither is taken.
    """
    known = [name for name in names if name in keys]
    name = known[0] if known else None
    if field == "report" and len(known) > 1 and name != names[0]:
        raise ValueError(
            f"Columns {' and '.join(known)} could both be the report. Name one with "
            f"--columns report={name}, or write both texts into one column called report."
        )
    found = [position for position, key in enumerate(keys) if key == name]
    if len(found) > 1:
        raise ValueError(f"{len(found)} columns could be the {field}; keep one of them.")
    return found[0] if found else -1


def count_known(header: Sequence[str], wanted: Mapping[str, str] | None = None) -> int:
    """How many headings are known; tells the right delimiter from a wrong one."""
    known = {_key(name) for names in ALIASES.values() for name in names}
    known |= {_key(name) for name in (wanted or {}).values()}
    return sum(_key(text) in known for text in header)


def parse_choice(field: str, value: str | None) -> str | None:
    """The canonical eye, language or split of a cell; None where it says nothing.

    Raises:
      ValueError: another word; the message names the allowed ones and not the given one.
    """
    choices = {"eye": EYES, "language": LANGUAGES, "split": SPLITS}[field]
    if value is None or says_nothing(value):
        return None
    word = _word(value)
    parts = set(word.split()) - {"eye", "eyes"}
    for name, words in choices.items():
        if word in words or word.replace(" ", "") in words:
            return name
        if field == "eye" and parts and parts <= set(words):
            return name  # "OD (右眼)", "Rt eye"
    raise ValueError(f"{field} must be one of {', '.join(choices)}, or empty.")


def says_nothing(text: str) -> bool:
    """Whether a cell is empty, punctuation, or a word for "unknown"."""
    return _word(text) in NOTHING


def _word(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def language_of(text: str) -> str:
    """ "zh" where Chinese characters make up a tenth of the letters, else "en"."""
    letters = sum(c.isalpha() for c in text)
    chinese = sum("\u3400" <= c <= "\u9fff" for c in text)
    return "zh" if chinese > 0.1 * letters else "en"


def as_markdown() -> str:
    """The headings as they stand in docs/curation.md."""
    lines = ["| column | headings that are known |", "|---|---|"]
    lines += [f"| `{field}` | {', '.join(names)} |" for field, names in ALIASES.items()]
    return "\n".join(lines)


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def _missing(field: str, width: int) -> str:
    names = ", ".join(ALIASES[field])
    return (
        f"None of the {width} columns in the first row is the {field}. Allowed headings: {names}. "
        f"Rename the column, or name yours with columns={{'{field}': '...'}}."
    )
