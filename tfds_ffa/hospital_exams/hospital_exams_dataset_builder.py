"""TFDS builder of a hospital's own exams. Writes ArrayRecord, needs no TensorFlow.

ffa-sora prepare --dataset hospital_exams/512 --exams EXAMS --table reports.csv --salt-file FILE
builder = tfds.builder_from_directory("data/hospital_exams/512/1.0.0")
source = builder.as_data_source(split="train")             # source[0]["video"]
"""

from tfds_ffa import exam_builder


class Builder(exam_builder.ExamBuilder):
    """Exams as `ffa-sora prepare` has curated them, split by patient."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Give `ffa-sora prepare` a folder of exams (frames, videos or DICOM) and a table of reports;
    docs/curation.md describes both.
    """
