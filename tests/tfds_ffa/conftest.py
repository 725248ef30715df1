"""One small prepared dataset for all tests of this folder."""

import pytest

from ffa_sora_jax import cli
from tfds_ffa.phantom import exams

NUM_EXAMS = 24


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Folder of phantom/64 with `NUM_EXAMS` exams, made by the command line."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exams, "RENDER_SIZE", 64)
        argv = ["prepare", "--dataset", "phantom/64", "--data-dir", str(folder)]
        assert cli.main([*argv, "--num-exams", str(NUM_EXAMS), "--workers", "1"]) == 0
    return folder
