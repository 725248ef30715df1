"""Worker processes that may hang or die on one task without taking the others with them.

A `concurrent.futures` pool is lost as a whole when one of its processes is killed, and cannot stop
a call that never returns. Exams can cause both: a broken codec, a file that needs all memory. Its
processes also stay when the one that started them is killed.
"""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

START_S = 300.0  # what a new process may take to import everything on a busy machine
_KILL_S = 5.0


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: "time_limit" or "worker_died"."""

    reason: str


def run(
    function: Callable[[Any], Any], tasks: Sequence[Any], workers: int, time_limit_s: float
) -> Generator[tuple[Any, Any], None, None]:
    """Calls `function(task)` in worker processes; yields (task, result) in order of completion.

    A process that dies, or works longer than the limit on one task, gives a `Failure` as the
    result of that task and is replaced.

    Args:
      function: importable by name, called in a spawned process (forking a process that has
        started threads, as OpenCV and TFDS do, can deadlock).
      tasks: picklable.
      workers: number of processes, at least 1.
      time_limit_s: seconds per task.

    Raises:
      OSError: one raised by `function`, such as a full disk.
      RuntimeError: another exception of `function`, named by its type and place.
      KeyboardInterrupt: a process was asked to end (SIGTERM), which is meant for all of them.
    """
    queue = collections.deque(tasks)
    crew: list[_Worker] = []
    try:
        for _ in range(min(workers, len(queue))):
            crew.append(_Worker(function))  # one by one, so that an interrupt here leaves none
        while queue or any(worker.busy for worker in crew):
            for worker in crew:
                if not worker.busy and queue:
                    worker.give(queue.popleft(), time_limit_s)
            yield from _collect(crew, function, time_limit_s)
    finally:
        for worker in crew:
            worker.stop()


def _collect(
    crew: list["_Worker"], function: Callable[[Any], Any], time_limit_s: float
) -> Iterator[tuple[Any, Any]]:
    """Waits for the next message or deadline; yields what became of tasks."""
    busy = [worker for worker in crew if worker.busy]
    patience = max(min(worker.deadline for worker in busy) - time.monotonic(), 0.0)
    ready = set(connection.wait([worker.pipe for worker in busy], patience))
    for worker in busy:
        failed = ""
        if worker.pipe in ready:
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                failed = worker.how_it_ended()
            else:
                if kind == "started":
                    worker.deadline = time.monotonic() + time_limit_s
                elif kind == "done":
                    yield worker.finish(), value
                else:
                    raise value
        elif time.monotonic() >= worker.deadline:
            failed = "time_limit"
        if failed:
            task = worker.finish()
            worker.stop()
            crew[crew.index(worker)] = _Worker(function)
            yield task, Failure(failed)


class _Worker:
    """One process, the pipe to it, and the task it works on."""

    def __init__(self, function: Callable[[Any], Any]):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.busy, self.task, self.deadline = False, None, 0.0

    def give(self, task: Any, time_limit_s: float) -> None:
        self.busy, self.task = True, task
        self.deadline = time.monotonic() + START_S + time_limit_s
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen when collecting
            self.pipe.send(task)

    def finish(self) -> Any:
        task, self.busy, self.task = self.task, False, None
        return task

    def how_it_ended(self) -> str:
        """The reason of the `Failure`; `timeout` and batch systems signal a whole group."""
        self.process.join(_KILL_S)
        if self.process.exitcode == -signal.SIGTERM:
            raise KeyboardInterrupt
        return "worker_died"

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join(_KILL_S)


# --- In the worker process ---


def _serve(pipe: connection.Connection, function: Callable[[Any], Any]) -> None:
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = pipe.recv()
            pipe.send(("started", None))
            pipe.send(_call(function, task))


def _call(function: Callable[[Any], Any], task: Any) -> tuple[str, Any]:
    try:
        return "done", function(task)
    except OSError as error:  # its text would name the file
        return "failed", OSError(error.errno, os.strerror(error.errno or 0))
    except Exception as error:
        return "failed", RuntimeError(f"A worker failed: {where(error)}.")


def _leave_with_parent() -> None:
    """Ends this process when the parent is killed, whatever it is working on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def where(error: BaseException) -> str:
    """Type and place of an exception. Its message may name files and people, so it is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
