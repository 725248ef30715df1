"""SIGTERM as Ctrl-C."""

import os
import signal

import pytest

from ffa_sora_jax.common.interrupts import sigterm_as_ctrl_c


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
