import io

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ffa_sora_jax.train.writer import MetricWriter, NullWriter, read_metrics


def events(workdir):
    accumulator = EventAccumulator(str(workdir / "tensorboard"), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator


def test_scalars_pictures_and_texts_reach_both_files(tmp_path):
    writer = MetricWriter(tmp_path)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    video = np.stack([np.full((6, 5, 1), 60 * k, np.uint8) for k in range(4)])
    writer.write_scalars(3, {"train/loss": 0.25})
    writer.write_images(3, {"sheet/0": image})
    writer.write_videos(3, {"video/0": video})
    writer.write_texts(3, {"report": "Left eye FFA"})
    writer.write_hparams({"optim.lr": 1e-3})
    writer.close()

    lines = read_metrics(tmp_path)
    assert lines[0]["step"] == 3 and lines[0]["train/loss"] == 0.25
    files = {name: tmp_path / path for m in lines[1:] for name, path in m["pictures"].items()}
    np.testing.assert_array_equal(np.asarray(Image.open(files["sheet/0"])), image)
    assert Image.open(files["video/0"]).n_frames == 4

    found = events(tmp_path)
    assert found.Scalars("train/loss")[0].value == 0.25
    gif = Image.open(io.BytesIO(found.Images("video/0")[0].encoded_image_string))
    assert gif.format == "GIF" and gif.size == (5, 6)
    gif.seek(2)
    assert np.asarray(gif.convert("L"))[0, 0] == 120
    assert {"report/text_summary", "config/text_summary"} <= set(found.Tags()["tensors"])


def test_resuming_drops_what_lies_behind(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (2, 4, 6):
        writer.write_scalars(step, {"x": step})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "x"')  # killed while writing
    writer = MetricWriter(tmp_path, start_step=4)
    writer.write_scalars(6, {"x": 60})
    writer.close()
    assert [(m["step"], m["x"]) for m in read_metrics(tmp_path)] == [(2, 2), (4, 4), (6, 60)]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = NullWriter()
    writer.write_scalars(0, {"x": 1.0})
    writer.write_images(0, {"x": np.zeros((2, 2, 3), np.uint8)})
    writer.write_videos(0, {"x": np.zeros((2, 2, 2, 3), np.uint8)})
    writer.write_texts(0, {"x": "y"})
    writer.flush()
    writer.close()
    assert not list(tmp_path.iterdir())
