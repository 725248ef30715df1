from ffa_sora_jax.jobs.status import describe

CONFIG = {"task": "t2v", "train": {"total_steps": 400}}


def test_a_run_under_way():
    metrics = [
        {"step": 0, "time": 10.0, "eval/loss": 2.0},
        {"step": 100, "time": 60.0, "train/loss": 1.5, "time/steps_per_s": 2.0},
        {"step": 100, "time": 70.0, "eval/loss": 1.25, "eval/psnr": 20.0, "eval/f1.leak": 0.5},
        {"step": 100, "time": 71.0, "pictures": {"sheet/0": "x.png"}},
    ]
    assert describe(CONFIG, metrics, now=131.0) == [
        "task: t2v",
        "step: 100 of 400 (25.0 %)",
        "speed: 2.00 steps/s, 2 min 30 s left",
        "last line: 1 min 00 s ago",
        "train at step 100: loss 1.5",
        "eval at step 100: loss 1.25, psnr 20",
    ]


def test_a_run_that_has_not_logged():
    assert describe(CONFIG, [], now=0.0) == ["task: t2v", "step: 0 of 400 (0.0 %)"]
