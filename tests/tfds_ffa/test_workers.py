"""Worker processes: a task that hangs or kills its process costs that task only."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfds_ffa import workers


def work(task):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if task == "hang":
        time.sleep(60)
    if task == "full":
        raise OSError(errno.ENOSPC, "No space left", "/secret/name")
    if task == "bug":
        raise KeyError("secret name")
    return task * 2


def test_a_task_that_hangs_or_dies_is_lost_alone():
    tasks = ["a", "die", "b", "hang", "c", "d", "e"]
    found = dict(workers.run(work, tasks, 2, 1.0))
    failures = {"die": workers.Failure("worker_died"), "hang": workers.Failure("time_limit")}
    assert found == {task: task * 2 for task in "abcde"} | failures


@pytest.mark.parametrize("task", ["full", "bug"])
def test_other_failures_stop_everything_and_name_nothing(task):
    wanted = OSError if task == "full" else RuntimeError
    with pytest.raises(wanted) as caught:
        list(workers.run(work, ["a", task, "b"], 1, 30.0))
    assert "secret" not in str(caught.value)
    if task == "full":
        assert caught.value.errno == errno.ENOSPC
    else:
        assert "KeyError at test_workers.py:" in str(caught.value)


def test_a_signal_to_the_whole_group_costs_no_task():
    with pytest.raises(KeyboardInterrupt):
        list(workers.run(work, ["a", "terminate", "b"], 1, 30.0))


def test_no_task_starts_no_process():
    assert list(workers.run(work, [], 4, 1.0)) == []


def test_workers_leave_when_their_parent_is_killed():
    code = (
        "from tests.tfds_ffa import test_workers as t\n"
        "from tfds_ffa import workers\n"
        "if __name__ == '__main__':\n"
        "    for _ in workers.run(t.tell, ['x', 'hang'], 1, 60.0): pass\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_until_gone([worker])


def wait_until_gone(pids):
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    try:
        with Path(f"/proc/{pid}/stat").open() as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def tell(task):
    if task == "hang":
        print(os.getpid(), flush=True)
        time.sleep(60)
    return task
