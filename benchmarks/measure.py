"""Fair timing of one call in a process of its own.

Both frameworks get the same cores, the same weights and the same inputs; each measurement runs in
a fresh process, so that one's memory and threads never touch the other's. A result is one JSON
object on the last line of standard output.
"""

import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def limit_cores(count: int) -> None:
    """Restricts this process; must run before a framework starts its threads."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))


def reset_peak() -> None:
    """Forgets the peak so far, so that loading and compiling do not count; needs Linux.

    What the C library keeps of memory freed by them is handed back first.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Highest resident memory since `reset_peak`, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(call: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Runs `call` once to warm up, then `repeats` times.

    Returns:
      first_s: wall seconds of the first call, compilation included.
      wall_s, cpu_s: lists of wall seconds, and of processor seconds summed over threads.
      peak_mib: highest resident memory of the repeated calls, weights included.
    """
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    process_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reset_peak()
    wall, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {
        "first_s": first, "wall_s": wall, "cpu_s": cpu, "peak_mib": peak_mib(),
        "process_peak_mib": max(process_peak, peak_mib()),
    }  # fmt: skip


def report(result: dict[str, Any], outputs: dict[str, np.ndarray], folder: str) -> None:
    """Saves the outputs for the comparison of both sides, and prints the result."""
    name = f"{result['model']}-{result['what']}-{result['framework']}.npz"
    np.savez(Path(folder) / name, **outputs)
    sys.stdout.write(json.dumps(result) + "\n")


def random(seed: int, *shape: int) -> np.ndarray:
    """Standard normal float32 input."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    return rng.standard_normal(shape, np.float32)
