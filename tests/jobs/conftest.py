"""The made-up dataset of the data tests."""

from tests.data.conftest import clinic_dir, data_dir

__all__ = ["clinic_dir", "data_dir"]
