"""Work that may be stopped half-way and started again: signals, full disks, the exit code."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

STOPPED = 1  # exit code


class Stopped(Exception):
    """Work cannot go on now, and what is finished is kept; the text says why."""


def resumable(work: Callable[[], int], kept: str) -> int:
    """Runs a job; Ctrl-C, SIGTERM and `Stopped` end it with one line on standard error.

    Args:
      work: the job; gives its exit code.
      kept: what is safe when it stops, for that line, such as "Finished rows are safe".

    Returns:
      What `work` gives, or `STOPPED`.
    """
    try:
        with sigterm_as_ctrl_c():
            return work()
    except KeyboardInterrupt:
        reason = "asked to stop"
    except Stopped as stop:
        reason = str(stop)
    sys.stderr.write(f"stopped: {reason}. {kept}; run the same command again to go on.\n")
    return STOPPED


@contextlib.contextmanager
def stop_on_oserror() -> Iterator[None]:
    """Turns an OSError, such as that of a full disk, into `Stopped`.

    Enter it when the output folder has been made: before that an OSError is bad usage.
    """
    try:
        yield
    except OSError as error:
        raise Stopped(str(error)) from error


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """While entered, the first SIGTERM raises KeyboardInterrupt, so that both stop work one way.

    Further ones are ignored: they would break off the stopping.
    """

    def interrupt(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
