"""Compiling what the doctor's trials need, several kernels at a time, where nothing is kept yet.

In one process the trials of a CPU take 50 s on a core of an EPYC, almost all of it in compilers; those of a GPU
come on top. Each trial runs here in a process of its own, whose kernels stay in the cache; how it ends is not asked:
the trials that follow tell. The processes take 3 s each to start, which fewer than four cores do not win back.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gpurender.util.progress import progress

PROCESSES = 8  # at a time, at most: each takes 1 GiB of memory, and 0.5 GiB of a GPU's
CORES = 4  # at least


def worthwhile() -> bool:
    """Return whether kernels can be kept, none are, and there are cores for several processes."""
    from gpurender.runtime import kernel_cache

    folder = kernel_cache.numba_folder()
    if len(os.sched_getaffinity(0)) < CORES or folder is None or not kernel_cache.writable(folder):
        return False
    return not (folder.is_dir() and any(folder.iterdir()))


def compile_ahead(names: Sequence[str], devices: Sequence[Any]) -> None:
    """Run the trials of these names on the CPU and on the first GPU of each model, each in a process."""
    first = {_model(device): device for device in reversed(devices)}
    jobs = [(name, str(device)) for device in first.values() for name in names]
    with (
        progress(total=len(jobs), desc="compile", unit="kernel") as bar,
        ThreadPoolExecutor(min(PROCESSES, len(os.sched_getaffinity(0)))) as pool,
    ):
        for _ in pool.map(_run, jobs):
            bar.update()


def _model(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _run(job: tuple[str, str]) -> None:
    """Run a trial in a process, and wait for its end."""
    words = [sys.executable, "-m", "gpurender.commands.checkup.trials", *job]
    nothing = subprocess.DEVNULL
    subprocess.run(words, stdin=nothing, stdout=nothing, stderr=nothing, check=False)
