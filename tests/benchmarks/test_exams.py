"""The benchmark of exams: its formats hold the same exam, its table divides as it says."""

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import exams
from ffa_sora_jax.video import reading


def test_every_format_holds_the_same_frames(tmp_path):
    clip = exams._clip(4, 96)
    assert clip.shape == (4, 96, 96)
    for name, write in exams.FORMATS.items():
        with reading.open_exam(write(tmp_path, clip)) as reader:
            frames = np.stack([f if f.ndim == 2 else f[..., 1] for f in reader])
        difference = np.abs(frames.astype(int) - clip).mean()
        assert difference < (2.0 if "MP4" in name else 1e-9), name


def test_table_gives_exams_per_second_of_one_core():
    row = {
        "format": "DICOM", "mib": 16.9, "cpu_s": 0.25, "reading_s": 0.05, "storing_s": 0.01,
        "peak_mib": 300.0,
    }  # fmt: skip
    line = exams.table([row], 30, 768, 512).splitlines()[-1]
    assert line.split() == ["DICOM", "16.9", "0.25", "0.05", "0.01", "4.00", "300"]


def test_dispatch(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(benchmarks, "_run", lambda name, argv: called.append((name, argv)) or 0)
    assert benchmarks.main(["exams", "--repeats", "2"]) == 0
    assert called == [("exams", ["--repeats", "2"])]
    called.clear()
    assert benchmarks.main(["--quick"]) == 0
    assert called == [(name, ["--quick"]) for name in benchmarks.BENCHMARKS]
    assert benchmarks.main(["--rounds", "2"]) == 2
    assert "NAME --help" in capsys.readouterr().err


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_every_benchmark_has_options(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmarks.main([name, "--help"])
    assert stopped.value.code == 0
    assert "--quick" in capsys.readouterr().out
