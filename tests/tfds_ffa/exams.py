"""What the tests of real exams share: the dummy data, the command on them, and what it wrote."""

import hashlib
import json
import shutil
from pathlib import Path

import tensorflow_datasets as tfds

import tfds_ffa
from ffa_sora_jax import cli

ROOT = Path(tfds_ffa.__file__).parent
NAME = "hospital_exams/64"


def hospital(folder):
    """A copy of the dummy exams and their table, and a salt that puts three of them in train."""
    salt(folder, 3)
    shutil.copytree(ROOT / "hospital_exams/dummy_data", folder / "hospital")
    return folder / "hospital"


def ffa_ir(folder):
    salt(folder, 3)
    shutil.copytree(ROOT / "ffa_ir/dummy_data", folder / "ffa_ir")
    return folder / "ffa_ir"


def salt(folder, number):
    path = folder / "salt"
    path.write_text(f"ffa-sora salt 1\n{number:064x}\n")
    path.chmod(0o600)


def argv(folder, *more, source="hospital", dataset=NAME):
    """The command that builds `folder`/`source` into `folder`/data."""
    exams = folder / source
    given = ["--exams", str(exams)]
    if source == "hospital":
        given = ["--exams", str(exams / "exams"), "--table", str(exams / "reports.csv")]
    given += ["--data-dir", str(folder / "data"), "--salt-file", str(folder / "salt")]
    return ["prepare", "--dataset", dataset, *given, "--workers", "1", *more]


def build(folder, *more, **kwargs):
    return cli.main(argv(folder, *more, **kwargs))


def hashes(folder, dataset=NAME):
    """SHA-256 of every file of the finished dataset."""
    files = sorted((folder / "data" / dataset / "1.0.0").glob("*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def staging(folder, dataset=NAME):
    return folder / "data/.staging" / dataset.replace("/", "-")


def staged(folder, dataset=NAME):
    """The finished exams that wait for the dataset."""
    return sorted((staging(folder, dataset) / "exams").glob("*/*.exam"))


def report(folder, dataset=NAME):
    path = folder / "data" / dataset / "build_report/build_report.json"
    return json.loads(path.read_text(encoding="utf-8"))


def reasons(folder, dataset=NAME):
    """{code: number of exams}, "" for the kept ones."""
    return {group["code"]: group["count"] for group in report(folder, dataset)["reasons"]}


def records(folder, dataset=NAME):
    """{split: records} of the finished dataset, read by plain TFDS."""
    builder = tfds.builder_from_directory(folder / "data" / dataset / "1.0.0")
    found = builder.as_data_source()
    return {name: [found[name][i] for i in range(len(found[name]))] for name in found}
