"""The report job over a folder: resumes, redoes nothing, says what failed, feeds `sample`.

The model is a stand-in that tells the brightness; the real one is tested in tests/pipelines.
"""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest

from ffa_sora_jax.jobs import report, rows
from ffa_sora_jax.pipelines.report_table import ReportTable
from ffa_sora_jax.pipelines.video_to_report import VideoToReport, Writing
from ffa_sora_jax.video.io import save_video


class Model:
    """Counts its calls."""

    def __init__(self):
        self.calls, self.fingerprint = [], "f" * 16
        self.tokenizer = SimpleNamespace(fingerprint="t" * 16)
        self.writing = Writing(max_new_tokens=20)
        self.model = SimpleNamespace(cfg=SimpleNamespace(max_positions=20))
        self.before_call, self.empty = lambda: None, None

    settings = VideoToReport.settings

    def __call__(self, video, *, seed, **settings):
        self.before_call()
        Writing(**settings)
        self.calls.append(int(video[0, 0, 0, 0]))
        if self.empty == self.calls[-1]:
            return ""
        drawn = f", drawn {seed}" if settings["do_sample"] else ""
        return f'Brightness "{video[0, 0, 0, 0]}"{drawn}.'


@pytest.fixture
def model(monkeypatch):
    model = Model()
    monkeypatch.setattr(report.VideoToReport, "from_pretrained", lambda weights: model)
    return model


@pytest.fixture
def folder(tmp_path):
    for value in (10, 20, 30):
        save_video(tmp_path / "in" / f"clip{value}.webp", np.full((2, 16, 16), value, np.uint8))
    return tmp_path / "in"


def run(*options):
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.run(parser.parse_args([str(option) for option in options]))


def test_one_video_is_printed(model, folder, capsys):
    assert run(folder / "clip20.webp") == 0
    assert capsys.readouterr().out == 'Brightness "20".\n'


def test_a_folder_becomes_a_table_that_sample_and_the_adapter_read(model, folder, tmp_path):
    table = tmp_path / "out.csv"
    assert run(folder, "--output", table) == 0
    found = rows.read_table(table)
    assert [(row.id, row.report) for row in found] == [
        (f"clip{v}", f'Brightness "{v}".') for v in (10, 20, 30)
    ]
    assert ReportTable.read(table).reports(["clip30"]) == ['Brightness "30".']


def test_goes_on_where_it_was_stopped_and_redoes_nothing(model, folder, tmp_path, capsys):
    table = tmp_path / "out.jsonl"

    def stop():
        if len(model.calls) == 2:
            raise KeyboardInterrupt

    model.before_call = stop
    assert run(folder, "--output", table) == 1
    assert "run the same command again" in capsys.readouterr().err and not table.exists()
    model.before_call = lambda: None
    assert run(folder, "--output", table) == 0
    assert model.calls == [10, 20, 30]
    whole = table.read_bytes()
    assert run(folder, "--output", table) == 0
    assert model.calls == [10, 20, 30] and table.read_bytes() == whole


def test_a_bad_video_does_not_stop_the_others(model, folder, tmp_path, capsys):
    (folder / "clip15.gif").write_bytes(b"GIF89a" + bytes(40))
    assert run(folder, "--output", tmp_path / "out.csv") == 3
    assert [row.id for row in rows.read_table(tmp_path / "out.csv")] == [
        "clip10", "clip20", "clip30"
    ]  # fmt: skip
    assert "failed: clip15" in capsys.readouterr().err


def test_an_empty_report_is_one_and_is_named(model, folder, tmp_path, capsys):
    """Leaving it out would make a model better that says nothing where it knows nothing."""
    model.empty = 20
    assert run(folder / "clip20.webp") == 0
    found = capsys.readouterr()
    assert found.out == "\n" and "Empty reports: 1, such as that of 'clip20'" in found.err
    assert run(folder, "--output", tmp_path / "out.csv") == 0
    assert "'clip20'" in capsys.readouterr().err
    assert ReportTable.read(tmp_path / "out.csv").texts["clip20"] == ""


def test_changed_videos_and_settings_are_refused_not_overwritten(model, folder, tmp_path, capsys):
    table = tmp_path / "out.csv"
    run(folder, "--output", table)
    before = table.read_bytes()
    save_video(folder / "clip10.webp", np.full((2, 16, 16), 99, np.uint8))
    assert run(folder, "--output", table) == 3
    assert "another video" in capsys.readouterr().err and table.read_bytes() == before
    assert run(folder, "--output", table, "--num-beams", 1) == 3
    assert run(folder, "--output", tmp_path / "b.csv", "--temperature", 0.7, "--seed", 4) == 0
    assert "drawn 4" in (tmp_path / "b.csv").read_text()


def test_shards_share_the_videos_and_the_table(model, folder, tmp_path):
    table = tmp_path / "out.csv"
    for shard in range(2):
        assert run(folder, "--output", table, "--shard", f"{shard}/2") == 0
    assert sorted(model.calls) == [10, 20, 30] and len(rows.read_table(table)) == 3


def test_a_video_that_is_not_there_is_no_dataset(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No video .*clip\.mp4"):
        run(tmp_path / "clip.mp4")


def test_a_folder_of_frames_is_one_video(model, folder, tmp_path, capsys):
    save_video(tmp_path / "frames", np.full((2, 16, 16), 50, np.uint8))
    assert run(tmp_path / "frames") == 0
    assert '"50"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ([], "name a table"), (["--output", "x.txt"], r"\.csv"),
        (["--output", "x.csv", "--num-beams", 2, "--temperature", 1.0], "one of them"),
        (["--output", "x.csv", "--max-new-tokens", 21], "at most 20"),
    ],
)  # fmt: skip
def test_bad_usage_is_refused(model, folder, options, match):
    with pytest.raises(ValueError, match=match):
        run(folder, *options)
    assert not model.calls
