"""Package metadata. Tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

VIDEO = ["av"]
DICOM = ["pydicom", "python-gdcm"]
TABLES = ["openpyxl"]
TEXT = ["ftfy"]
BEAM = ["apache-beam"]  # asks for older protobuf and pyarrow: best in an environment of its own
LINT = ["ruff", "mypy"]
TEST = ["pytest", "pytest-xdist", "hypothesis", "matplotlib"]

setup(
    name="ffa-sora-jax",
    version="0.1.0",
    description="Fluorescein angiogram videos from reports: FFA Sora in JAX/Flax",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["ffa_sora_jax*", "tfds_ffa*", "configs*"]),
    package_data={"ffa_sora_jax": ["assets/**/*"], "tfds_ffa": ["**/*.md", "**/*.txt", "**/*.bib"]},
    install_requires=[
        "absl-py",
        "array_record",
        "clu",
        "einops",
        "flax>=0.12.8",
        "grain",
        "importlib_resources",
        "jax>=0.10",
        "ml_collections",
        "numpy",
        "opencv-python-headless",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "safetensors",
        "scipy",
        "sentencepiece",
        "tensorboard",
        "tensorflow-datasets",
        "transformers",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda12]"],
        "video": VIDEO,
        "dicom": DICOM,
        "tables": TABLES,
        "text": TEXT,
        "beam": BEAM,
        "parity": ["torch==2.13.0"],
        "dev": VIDEO + DICOM + TABLES + LINT + TEST,
    },
    entry_points={"console_scripts": ["ffa-sora = ffa_sora_jax.cli:main"]},
)
