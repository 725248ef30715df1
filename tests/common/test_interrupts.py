"""SIGTERM as Ctrl-C, and jobs that end with a word and a code when they are stopped."""

import os
import signal

import pytest

from ffa_sora_jax.common.interrupts import (
    STOPPED,
    Stopped,
    resumable,
    sigterm_as_ctrl_c,
    stop_on_oserror,
)


def test_the_first_sigterm_interrupts_and_the_next_ones_do_not():
    before = signal.getsignal(signal.SIGTERM)
    cleaned = False
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not interrupted")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_job_that_ends_by_itself_gives_its_own_code(capsys):
    assert resumable(lambda: 3, "All is safe") == 3
    assert capsys.readouterr().err == ""


def test_a_stopped_job_says_why_and_what_is_kept(capsys):
    def asked():
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    def full():
        with stop_on_oserror():
            raise OSError("disk full")

    for work, why in ((asked, "asked to stop"), (full, "disk full")):
        assert resumable(work, "All is safe") == STOPPED
        expected = f"stopped: {why}. All is safe; run the same command again to go on.\n"
        assert capsys.readouterr().err == expected


def test_other_errors_are_not_taken_for_a_stop():
    with pytest.raises(OSError, match="no such folder"):
        resumable(lambda: fail(OSError("no such folder")), "All is safe")
    with pytest.raises(ValueError, match="bad"), stop_on_oserror():
        fail(ValueError("bad"))
    with pytest.raises(Stopped), stop_on_oserror():
        fail(PermissionError("denied"))


def fail(error):
    raise error
