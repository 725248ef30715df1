"""Evaluation: known samples give known scores, and two calls give the same numbers."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ffa_sora_jax import phantom
from ffa_sora_jax.common.mesh import make_mesh
from ffa_sora_jax.common.types import Clip, Text
from ffa_sora_jax.metrics import registry
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.evaluate import METRICS, Evaluator
from ffa_sora_jax.train.readouts import laterality, phases
from ffa_sora_jax.train.writer import MetricWriter, read_metrics
from ffa_sora_jax.video import sheet
from tests.metrics import toys
from tests.train.toy import ToySource, ToyTask, toy_config

SIZE = 16


class Darker(ToyTask):
    """Samples are the real clips, 51 grey levels darker: PSNR 20 log10(255 / 51) = 13.979 dB."""

    def loss(self, player, params, frozen, rng, clip, step):
        return jnp.mean(clip.video) + 0.0 * jnp.sum(params[player]["up"]["bias"]), {}

    def sample(self, params, frozen, rng, clip):
        return dataclasses.replace(clip, video=clip.video - 51 / 127.5)


class Bright(ToySource):
    def batch(self, step):
        rng = np.random.default_rng([3, step])
        video = rng.integers(60, 256, (self.batch_size, 3, SIZE, SIZE, 1), dtype=np.uint8)
        return Clip(video=video, exam=np.arange(self.batch_size))


def evaluator(workdir, task, **eval_config):
    config = toy_config()
    config.eval.update({"num_samples": 5, "num_sheets": 1, "batch_size": 8, **eval_config})
    mesh = make_mesh((("data", 1),), jax.devices()[:1])
    writer = MetricWriter(workdir)
    return Evaluator(task, config, Bright(), mesh, writer), writer


def new_toy_state(task):
    params = jax.jit(task.init)(jax.random.key(0))
    return types.SimpleNamespace(params=params, step=jnp.int32(3), averaged=lambda: params)


def test_known_samples_give_known_scores(tmp_path):
    task = Darker()
    evaluate, writer = evaluator(tmp_path, task, metrics=("psnr",))
    scalars = evaluate(new_toy_state(task), task.frozen(), 7)
    writer.close()
    assert scalars["eval/psnr"] == pytest.approx(13.9794, abs=1e-3)
    expected = np.mean(Bright().batch(0).video / 127.5 - 1)
    assert scalars["eval/loss"] == pytest.approx(float(expected), abs=1e-5)
    lines = read_metrics(tmp_path)
    pictures = {name for line in lines for name in line.get("pictures", {})}
    assert pictures == {"sheet/0", "video/0"}
    assert any(line["step"] == 7 and "eval/psnr" in line for line in lines)


def test_the_registry_serves_training_too(tmp_path, monkeypatch):
    for entry in toys.ENTRIES:
        monkeypatch.setitem(registry.METRICS, entry.name, entry)
    monkeypatch.setattr(
        "ffa_sora_jax.train.evaluate.METRICS", ("shift", "psnr", "ssim_uniform", "prompted")
    )
    task = Darker()
    evaluate, writer = evaluator(tmp_path, task, metrics=("shift", "psnr", "prompted"))
    facts = {"report": "four", "times_s": np.arange(3.0), "times_known": True, "synthetic": True}
    evaluate._source.examples = [types.SimpleNamespace(**facts)]
    scalars = evaluate(new_toy_state(task), task.frozen(), 7)
    writer.close()
    assert scalars["eval/shift"] == pytest.approx(51 / 127.5, abs=1e-5)
    real = Bright().batch(0).video[:5] / 127.5 - 1
    assert scalars["eval/prompted"] == pytest.approx(4 * (real.mean() - 51 / 127.5), abs=1e-3)


@pytest.mark.parametrize(("synthetic", "mark"), [(True, "REFERENCE"), (False, "PATIENT DATA")])
def test_sheets_say_whether_a_clip_shows_a_patient(tmp_path, monkeypatch, synthetic, mark):
    seen = []

    def spy(video, times_s=None, mark="SYNTHETIC", phases=True):
        seen.append((mark, None if times_s is None else times_s.tolist(), phases))
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(sheet, "contact_sheet", spy)
    task = Darker()
    evaluate, writer = evaluator(tmp_path, task, metrics=())
    facts = {"times_s": np.arange(3.0), "times_known": synthetic, "synthetic": synthetic}
    evaluate._source.examples = [types.SimpleNamespace(**facts)]
    evaluate(new_toy_state(task), task.frozen(), 7)
    writer.close()
    times = [0, 1, 2] if synthetic else None  # nobody measured those of the exam
    assert seen == [(mark, times, synthetic), ("SYNTHETIC", times, synthetic)]


def test_metrics_that_lack_something_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"i3d_pretrained_400\.pt"):
        evaluator(tmp_path, Darker(), metrics=("fvd",))
    with pytest.raises(ValueError, match="Unknown metric of a video 'bertscore'"):
        evaluator(tmp_path, Darker(), metrics=("bertscore",))
    assert "fvd" in METRICS and "bertscore" not in METRICS


class Writer(Darker):
    """Writes the report of the clip three places further on in the batch."""

    makes = "report"
    said = ("left eye. leakage.", "right eye. no leakage.", "microaneurysms.")

    def sample(self, params, frozen, rng, clip):
        return clip.replace(text=Text(ids=jnp.roll(clip.text.ids, -3, axis=0), mask=clip.text.mask))

    def texts(self, ids):
        return [self.said[int(row[0])] for row in ids]


class Told(Bright):
    def batch(self, step):
        ids = (np.arange(self.batch_size)[:, None] % 3).astype(np.int32)
        return super().batch(step).replace(text=Text(ids=ids, mask=ids >= 0))


def test_reports_are_judged_by_what_they_say(tmp_path):
    task, config = Writer(), toy_config()
    config.eval.update(num_samples=8, num_sheets=1, batch_size=8, metrics=("report_findings",))
    mesh, writer = make_mesh((("data", 1),), jax.devices()[:1]), MetricWriter(tmp_path)
    shown = {}
    writer.write_texts = lambda step, texts: shown.update(texts)
    scalars = Evaluator(task, config, Told(), mesh, writer)(new_toy_state(task), {}, 7)
    writer.close()
    # References 0 1 2 0 1 2 0 1, written 0 1 2 0 1 0 1 2: of five findings each, three are hits.
    assert scalars["eval/report_findings_f1"] == pytest.approx(3 / 5)
    assert scalars["eval/f1.leak"] == pytest.approx(2 / 3)
    assert scalars["eval/laterality"] == pytest.approx(4 / 6)
    said = "left eye. leakage."
    assert shown == {"report/0": f"**Reference:** {said}\n\n**Written:** {said}"}


def test_videos_and_reports_have_metrics_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="Unknown metric of a report 'psnr'"):
        evaluator(tmp_path, Writer(), metrics=("psnr",))
    with pytest.raises(ValueError, match="Unknown metric of a video 'report_findings'"):
        evaluator(tmp_path, Darker(), metrics=("report_findings",))


def test_repeats_exactly(tmp_path):
    task = Darker()
    evaluate, writer = evaluator(tmp_path, task, metrics=("psnr", "ssim"))
    state = new_toy_state(task)
    assert evaluate(state, task.frozen(), 0) == evaluate(state, task.frozen(), 1)
    writer.close()


def test_unknown_metric_and_batch_size(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'psnr'"):
        evaluator(tmp_path, Darker(), metrics=("pnsr",))
    config = toy_config()
    config.eval.batch_size = 3
    with pytest.raises(ValueError, match=r"eval\.batch_size is 3"):
        Evaluator(Darker(), config, Bright(), make_mesh((("data", 8),)), None)


def test_averages_are_evaluated_where_asked(tmp_path):
    seen = []

    class Spy(Darker):
        def loss(self, player, params, frozen, rng, clip, step):
            return params[player]["up"]["bias"][0], {}

    task = Spy()
    params = jax.jit(task.init)(jax.random.key(0))
    ema = jax.tree.map(lambda x: x + 1, params)
    state = types.SimpleNamespace(params=params, step=jnp.int32(0), averaged=lambda: ema)
    for use_ema in (True, False):
        evaluate, writer = evaluator(tmp_path, task, num_samples=0, use_ema=use_ema)
        seen.append(evaluate(state, task.frozen(), 0)["eval/loss"])
        writer.close()
    assert seen == [1.0, 0.0]


def test_the_loop_evaluates_at_start_on_time_and_at_the_end(tmp_path):
    config = toy_config(total_steps=5)
    config.eval.update(steps=2, num_batches=1, num_samples=0)
    mesh = make_mesh((("data", 1),), jax.devices()[:1])
    loop.train(ToyTask(), config, tmp_path, ToySource(), ToySource(seed=1), mesh=mesh)
    curve = {m["step"]: m["eval/loss"] for m in read_metrics(tmp_path) if "eval/loss" in m}
    assert list(curve) == [0, 2, 4, 5]
    assert curve[5] < curve[0]


@pytest.fixture(scope="module")
def clips():
    exams = [phantom.generate(5, index, size=64) for index in range(6)]
    videos = np.stack([exam.video[..., None] for exam in exams])
    return videos, [known(exam) for exam in exams]


def known(exam, **changes):
    """What a dataset tells of a clip."""
    facts = {"eye": exam.eye, "times_s": exam.times_s, "times_known": True}
    return types.SimpleNamespace(**facts | changes)


def test_laterality_of_real_swapped_and_mirrored_clips(clips):
    videos, exams = clips
    right = laterality(videos, videos, exams)
    assert right["laterality"] == right["laterality_real"] >= 5 / 6
    mirrored = laterality(videos[:, :, :, ::-1], videos, exams)
    assert mirrored["laterality"] <= 1 / 6
    assert laterality(videos, videos, None)["laterality"] == 1.0


def test_phases_of_real_clips(clips):
    videos, exams = clips
    forward = phases(videos, videos, exams)
    assert forward["fades"] == forward["fades_real"]
    assert forward["arteries_first"] == forward["arteries_first_real"] > 0.5
    with pytest.raises(ValueError, match="frame times"):
        phases(videos, videos, None)


def test_what_nobody_recorded_is_no_miss(clips):
    videos, exams = clips
    nobody = [known(exam, eye="unknown", times_known=False) for exam in exams]
    assert laterality(videos, videos, nobody) == phases(videos, videos, nobody) == {}
    mixed, both = [*exams[:3], *nobody[3:]], (videos, videos)
    half = (videos[:3], videos[:3])
    assert laterality(*both, mixed) == laterality(*half, exams[:3])
    assert phases(*both, mixed) == phases(*half, exams[:3])
