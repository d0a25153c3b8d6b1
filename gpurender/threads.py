"""Parallel loops over images: plain threads around kernels that release the GIL.

Threads live for one call only, so a fork between two calls is harmless (OpenMP's pools do not survive one) and nothing
runs while no batch is being drawn. Their number is torch's (``torch.set_num_threads``, ``OMP_NUM_THREADS``), which
torch sets to one inside the workers of its own ``DataLoader``. A result never depends on it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

CHUNKS_PER_THREAD = 4  # images differ in cost; a few chunks a thread even that out
CHUNK = 64  # images at most: an interrupt waits for the chunks that have begun


def parallel_ranges(n: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` over disjoint ranges that cover ``range(n)``, on torch's number of threads."""
    import torch

    threads = max(1, min(torch.get_num_threads(), n))
    chunks = max(min(n, threads * CHUNKS_PER_THREAD) if threads > 1 else 1, -(-n // CHUNK))
    bounds = [n * i // chunks for i in range(chunks + 1)]
    if threads == 1:
        for a, b in pairwise(bounds):
            work(a, b)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="gpurender") as pool:
        waiting = [pool.submit(work, a, b) for a, b in pairwise(bounds)]
        try:
            for done in waiting:
                done.result()
        except BaseException:  # an error, or Ctrl-C: what has not begun is left
            pool.shutdown(wait=True, cancel_futures=True)
            raise
