"""Parallel loops over images: plain threads around kernels that release the GIL.

Threads live for one call only, so a fork between two calls is harmless (OpenMP's pools do not survive one) and nothing
runs while no batch is being drawn. Their number is torch's (``torch.set_num_threads``, ``OMP_NUM_THREADS``), which
torch sets to one inside the workers of its own ``DataLoader``. A result never depends on it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

CHUNKS_PER_THREAD = 4  # images differ in cost; a few chunks a thread even that out


def parallel_ranges(n: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` over disjoint ranges that cover ``range(n)``, on torch's number of threads."""
    import torch

    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        work(0, n)
        return
    chunks = min(n, threads * CHUNKS_PER_THREAD)
    bounds = [n * i // chunks for i in range(chunks + 1)]
    with ThreadPoolExecutor(threads, thread_name_prefix="gpurender") as pool:
        for done in [pool.submit(work, a, b) for a, b in pairwise(bounds)]:
            done.result()
