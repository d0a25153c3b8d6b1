"""Parallel loops over images: plain threads around kernels that release the GIL.

Threads live for one call only, so a fork between two calls is harmless (OpenMP's pools do not survive one) and nothing
runs while no batch is being drawn. Their number is torch's (``torch.set_num_threads``, ``OMP_NUM_THREADS``), which
torch sets to one inside the workers of its own ``DataLoader``. A result never depends on it. The caller is one of them,
so where the system gives fewer threads (a container's limit, an interpreter that ends), it does what is left.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

CHUNKS_PER_THREAD = 4  # images differ in cost; a few chunks a thread even that out
CHUNK = 64  # images at most: an interrupt waits for the chunks that have begun

_of_thread = threading.local()


class StoppedError(Exception):
    """Nobody wants the result any more."""


@contextlib.contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """Let parallel loops of this thread begin no range after an event; they raise :class:`StoppedError`."""
    _of_thread.event = event
    try:
        yield
    finally:
        _of_thread.event = None


def parallel_ranges(n: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` over disjoint ranges that cover ``range(n)``, on torch's number of threads.

    If it raises, ranges that have not begun are left, and the error of the first range that failed is raised.
    """
    import torch

    threads = max(1, min(torch.get_num_threads(), n))
    chunks = max(min(n, threads * CHUNKS_PER_THREAD) if threads > 1 else 1, -(-n // CHUNK))
    bounds = [n * i // chunks for i in range(chunks + 1)]
    stop: threading.Event | None = getattr(_of_thread, "event", None)
    left, failed = deque(pairwise(bounds)), list[tuple[int, BaseException]]()

    def take() -> None:
        while left:
            try:
                a, b = left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                if stop is not None and stop.is_set():
                    raise StoppedError
                work(a, b)
            except BaseException as error:  # Ctrl-C as well
                left.clear()
                failed.append((a, error))

    helpers: list[threading.Thread] = []
    try:
        _start(helpers, threads - 1, take)
        take()
    finally:
        left.clear()  # for a Ctrl-C between two ranges
        for helper in helpers:
            _join(helper)
    if failed:
        try:
            raise min(failed, key=lambda found: found[0])[1]
        finally:
            failed.clear()  # an error keeps its frames, and these would keep the error


def _start(threads: list[threading.Thread], count: int, target: Callable[[], None]) -> None:
    """Start so many threads, or as many as there are to be had."""
    for _ in range(count):
        threads.append(threading.Thread(target=target, name="gpurender"))  # before a Ctrl-C can come in its start
        try:
            threads[-1].start()
        except RuntimeError:  # a limit of the system, or the interpreter ends; the next loop tries again
            threads.pop()
            return


def _join(thread: threading.Thread) -> None:
    """Wait for a thread, unless it has not begun: then it will find nothing left to do."""
    while thread.ident is not None:
        try:
            thread.join()
            return
        except RuntimeError:  # it has begun, and is about to say so
            time.sleep(0)
