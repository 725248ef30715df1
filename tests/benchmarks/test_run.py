"""The comparison takes the best of each side and divides JAX by PyTorch."""

import pytest

from benchmarks.run import summary, table


def run(wall, cpu, peak):
    return {
        "wall_s": wall, "cpu_s": cpu, "first_s": 9.0, "peak_mib": peak, "process_peak_mib": peak,
    }  # fmt: skip


def test_best_round_and_ratio():
    row = summary(
        "dit", "forward",
        {
            "jax": [run([3.0, 2.0], [5.0, 4.0], 600.0), run([2.5, 2.5], [6.0, 6.0], 500.0)],
            "torch": [run([8.0, 4.0], [9.0, 8.0], 1000.0)],
        },
    )  # fmt: skip
    assert row["jax"]["wall_s"] == 2.0 and row["torch"]["cpu_s"] == 8.0
    assert row["ratio"]["wall_s"] == 0.5 and row["ratio"]["cpu_s"] == 0.5
    assert row["ratio"]["peak_mib"] == pytest.approx(0.5)
    line = table([{**row, "difference": 1e-5}]).splitlines()[-1]
    assert line.startswith("DiT 84 M, forward") and "1.0e-05" in line
