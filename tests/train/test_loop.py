"""Laws of the loop: resuming changes nothing, the number of devices changes nothing."""

import jax
import numpy as np
import pytest

from ffa_sora_jax.common.mesh import make_mesh
from ffa_sora_jax.train import loop
from ffa_sora_jax.train.writer import read_metrics
from tests.tolerances import TOL
from tests.train.toy import ToySource, ToyTask, TwoPlayers, toy_config

ONE = (("data", 1),)


def one_device():
    return make_mesh(ONE, jax.devices()[:1])


def run(workdir, task=None, mesh=None, eval_source=None, **train):
    return loop.train(
        task or ToyTask(), toy_config(**train), workdir, ToySource(), eval_source,
        mesh=mesh or one_device(),
    )  # fmt: skip


def losses(workdir):
    return {m["step"]: m["train/loss"] for m in read_metrics(workdir) if "train/loss" in m}


def same(a, b):
    leaves_a, leaves_b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(leaves_a) == len(leaves_b)
    return all(np.array_equal(x, y) for x, y in zip(leaves_a, leaves_b, strict=True))


def test_learns(tmp_path):
    run(tmp_path, total_steps=60)
    curve = losses(tmp_path)
    assert curve[60] < 0.8 * curve[2]


@pytest.mark.parametrize("task", [ToyTask(), TwoPlayers()])
def test_k_plus_k_steps_are_2k_steps(tmp_path, task):
    straight = run(tmp_path / "straight", task)
    run(tmp_path / "halves", task, total_steps=4)
    resumed = run(tmp_path / "halves", task)
    assert int(resumed.step) == 8
    assert same(straight, resumed)
    assert losses(tmp_path / "straight") == losses(tmp_path / "halves")


MESHES = {
    "8x1": (("data", 8),),
    "1x8": (("fsdp", 8),),
    "2x4": (("data", 2), ("fsdp", 4)),
}


@pytest.mark.parametrize("axes", MESHES.values(), ids=MESHES.keys())
def test_eight_devices_give_the_loss_of_one(tmp_path, axes):
    run(tmp_path / "one", total_steps=6)
    mesh = make_mesh(axes)
    state = run(tmp_path / "eight", mesh=mesh, total_steps=6)
    one, eight = losses(tmp_path / "one"), losses(tmp_path / "eight")
    assert one.keys() == eight.keys() == {2, 4, 6}
    for step in one:
        assert abs(one[step] - eight[step]) <= TOL["devices"]
    if mesh.shape["fsdp"] > 1:  # parameters and moments really are split
        assert not state.params["model"]["up"]["kernel"].sharding.is_fully_replicated
        assert not state.opt_state["model"][1][0].mu["up"]["kernel"].sharding.is_fully_replicated


def test_resumes_on_another_mesh(tmp_path):
    straight = run(tmp_path / "one")
    run(tmp_path / "moved", mesh=make_mesh(MESHES["2x4"]), total_steps=4)
    moved = run(tmp_path / "moved")
    for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(a, b, atol=TOL["devices"])


def test_falls_back_past_a_damaged_checkpoint(tmp_path):
    straight = run(tmp_path / "straight")
    run(tmp_path / "hurt")
    folder = tmp_path / "hurt" / "checkpoints" / "8"
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(b"x" * largest.stat().st_size)
    assert same(straight, run(tmp_path / "hurt"))
    assert losses(tmp_path / "straight") == losses(tmp_path / "hurt")


def test_another_config_is_refused_and_the_differences_listed(tmp_path):
    run(tmp_path, total_steps=4)
    config = toy_config(total_steps=6, log_steps=1)
    config.optim.lr = 0.5
    with pytest.raises(ValueError, match=r"optim/lr: 0.01 stored, 0.5 given") as error:
        loop.train(ToyTask(), config, tmp_path, ToySource(), mesh=one_device())
    assert "total_steps:" not in str(error.value)  # allowed to change


def test_stop_saves_and_the_next_run_goes_on(tmp_path):
    straight = run(tmp_path / "straight")
    asked = iter([False, False, True])
    stopped = loop.train(
        ToyTask(), toy_config(), tmp_path / "stopped", ToySource(), mesh=one_device(),
        stop=lambda: next(asked),
    )  # fmt: skip
    assert int(stopped.step) == 3
    assert same(straight, run(tmp_path / "stopped"))


def test_time_limit_stops_after_a_save(tmp_path):
    state = run(tmp_path, max_seconds=1e-9, total_steps=1000)
    assert int(state.step) == 1
    assert (tmp_path / "checkpoints" / "1" / "manifest.json").exists()


class NotANumber(ToyTask):
    def loss(self, player, params, frozen, rng, clip, step):
        value, scalars = super().loss(player, params, frozen, rng, clip, step)
        return value + jax.numpy.where(step == 5, jax.numpy.nan, 0.0), scalars


def test_not_a_number_names_the_step_and_is_never_saved(tmp_path):
    with pytest.raises(FloatingPointError, match=r"Step 6 \(model\) gave .*loss"):
        run(tmp_path, NotANumber(), ckpt_steps=2, log_steps=100, total_steps=20)
    saved = sorted(p.name for p in (tmp_path / "checkpoints").glob("[0-9]*"))
    assert saved == ["2", "4"]
    assert int(run(tmp_path).step) == 8  # goes on from step 4


def test_players_take_turns_and_only_one_moves(tmp_path):
    start = run(tmp_path / "a", TwoPlayers(), total_steps=1)
    after = run(tmp_path / "b", TwoPlayers(), total_steps=2)
    assert same(start.params["generator"], after.params["generator"])
    assert not same(start.params["discriminator"], after.params["discriminator"])
    assert list(after.ema) == ["generator"]


def test_unknown_players_in_the_config(tmp_path):
    config = toy_config()
    config.ema.players = ("modle",)
    with pytest.raises(ValueError, match="Did you mean 'model'"):
        loop.prepare(ToyTask(), config, one_device())
    config = toy_config()
    config.optim.players.modle = {"lr": 1.0}
    with pytest.raises(ValueError, match="Did you mean 'model'"):
        loop.prepare(ToyTask(), config, one_device())


class Calibrated(ToyTask):
    def calibrate(self, params, clips):
        mean = np.mean([clip.video.mean() for clip in clips])
        params["model"]["up"]["bias"] = np.full(256, mean, np.float32)
        return params


def test_calibration_sees_the_first_batches(tmp_path):
    config = toy_config(calibration_batches=3, total_steps=1)
    config.optim.lr = 0.0
    state = loop.train(Calibrated(), config, tmp_path, ToySource(), mesh=one_device())
    mean = np.mean([ToySource().batch(step).video.mean() for step in range(3)])
    np.testing.assert_allclose(state.params["model"]["up"]["bias"], mean, rtol=1e-6)


class Warm(ToyTask):
    """Finds the first layer in any folder; `change` spoils it."""

    def __init__(self, change=lambda params: params):
        self.change = change

    def warm_start(self, directory):
        assert str(directory) == "somewhere"
        bias = np.arange(256, dtype=np.float32)
        up = {"kernel": np.full((16, 256), 0.25, np.float32), "bias": bias}
        return {"model": self.change({"up": up})}


def warm_config(**train):
    config = toy_config(**{"init_from": "somewhere", **train})
    config.optim.lr = 0.0
    return config


@pytest.mark.parametrize("axes", [ONE, MESHES["2x4"]], ids=["one", "2x4"])
def test_starts_from_a_folder_and_fills_in_what_it_lacks(tmp_path, axes):
    mesh = one_device() if axes == ONE else make_mesh(axes)
    fresh = loop.train(
        ToyTask(), warm_config(init_from="", total_steps=1), tmp_path / "still", ToySource(),
        mesh=mesh,
    )  # fmt: skip
    warm = loop.train(
        Warm(), warm_config(total_steps=1), tmp_path / "warm", ToySource(), mesh=mesh
    )  # fmt: skip
    for params in (warm.params["model"], warm.ema["model"]):
        np.testing.assert_array_equal(params["up"]["bias"], np.arange(256))
        np.testing.assert_array_equal(params["up"]["kernel"], 0.25)
        assert same(params["blocks"], fresh.params["model"]["blocks"])
    sharding = fresh.params["model"]["up"]["kernel"].sharding
    assert warm.params["model"]["up"]["kernel"].sharding == sharding


def test_own_checkpoint_comes_before_the_folder(tmp_path):
    class Gone(ToyTask):
        def warm_start(self, directory):
            raise AssertionError

    config = toy_config(init_from="somewhere")
    straight = loop.train(Warm(), config, tmp_path / "a", ToySource(), mesh=one_device())
    half = toy_config(init_from="somewhere", total_steps=4)
    loop.train(Warm(), half, tmp_path / "b", ToySource(), mesh=one_device())
    moved = toy_config(init_from="elsewhere")
    resumed = loop.train(Gone(), moved, tmp_path / "b", ToySource(), mesh=one_device())
    assert same(straight, resumed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: {"up": {**p["up"], "bias": np.zeros(3)}},
            r"up/bias: \(3,\) there, \(256,\) here",
        ),
        (lambda p: {**p, "down": np.zeros(3)}, r"model/down: \(3,\) there, none here"),
    ],
)
def test_loaded_parameters_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        loop.train(Warm(change), warm_config(), tmp_path, ToySource(), mesh=one_device())
    assert not (tmp_path / "config.json").exists()


def test_two_beginnings_are_refused():
    with pytest.raises(ValueError, match="calibration_batches both set the first parameters"):
        loop.prepare(Warm(), warm_config(calibration_batches=1), one_device())
