"""Progress of long host work on standard error: count, rate, time left."""

import sys
import time
from typing import TextIO


class Progress:
    """Prints `label 12/100, 3.4 /s, 26 s left` at most every `every_s` seconds."""

    def __init__(
        self,
        label: str,
        total: int,
        *,
        done: int = 0,
        every_s: float = 2.0,
        stream: TextIO | None = None,
    ):
        self.label, self.total, self.done = label, total, done
        self._start_done, self._start = done, time.monotonic()
        self._every_s, self._last = every_s, -float("inf")
        self._stream = stream or sys.stderr

    def advance(self, count: int = 1) -> None:
        """Counts finished items, and prints when it is time or the work is complete."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self._every_s or self.done >= self.total:
            self._last = now
            self._stream.write(self.line(now - self._start) + "\n")
            self._stream.flush()

    def line(self, elapsed_s: float) -> str:
        """The text for `elapsed_s` seconds since the start."""
        finished = self.done - self._start_done
        rate = finished / elapsed_s if elapsed_s > 0 else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate else "time left unknown"
        return f"{self.label} {self.done}/{self.total}, {rate:.2f} /s, {left}"
