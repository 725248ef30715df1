"""The made-up dataset of the data tests."""

from tests.data.conftest import data_dir

__all__ = ["data_dir"]
