"""TFDS builder of FFA-IR. Writes ArrayRecord, needs no TensorFlow.

ffa-sora prepare --dataset ffa_ir/512 --exams DOWNLOADS --salt-file FILE
builder = tfds.builder_from_directory("data/ffa_ir/512/1.0.0")
source = builder.as_data_source(split="train")             # source[0]["report_zh"]
"""

from tfds_ffa import exam_builder


class Builder(exam_builder.ExamBuilder):
    """Cases of FFA-IR as clips, in the splits of its authors."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    FFA-IR needs a credentialed PhysioNet account. Download all files of
    https://physionet.org/content/ffa-ir-medical-report/ into one folder and unpack the archive
    there; README.md beside this file shows what the folder then holds.
    """
