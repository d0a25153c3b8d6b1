"""Parallel loops over images: plain threads around kernels that release the GIL.

Threads live for one call only, so a fork between two calls is harmless (OpenMP's pools do not survive a fork) and no
thread runs while no batch is being rendered. The number of threads is torch's (``torch.set_num_threads``,
``OMP_NUM_THREADS``), which torch sets to one inside the workers of its own ``DataLoader``. A result never depends on
this number. The calling thread is one of the threads, so if the system grants fewer threads (a container's limit, an
interpreter that is shutting down), the calling thread does the remaining work.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

CHUNKS_PER_THREAD = 4  # images differ in cost; a few chunks per thread even that out
CHUNK = 64  # images per chunk at most: an interrupt waits for the chunks that have begun

_of_thread = threading.local()


class StoppedError(Exception):
    """The result is no longer wanted."""


@contextlib.contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """Make parallel loops of this thread raise :class:`StoppedError` before their next range once ``event`` is set."""
    _of_thread.event = event
    try:
        yield
    finally:
        _of_thread.event = None


def check_wanted() -> None:
    """Raise :class:`StoppedError` if the event of :func:`stopped_by` in this thread is set."""
    event: threading.Event | None = getattr(_of_thread, "event", None)
    if event is not None and event.is_set():
        raise StoppedError


def parallel_ranges(n: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` over disjoint ranges that cover ``range(n)``, on torch's number of threads.

    If ``work`` raises, ranges that have not begun are skipped, and the error of the first range that failed is raised.
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
        left.clear()  # after a Ctrl-C between two ranges
        for helper in helpers:
            _join(helper)
    if failed:
        try:
            raise min(failed, key=lambda found: found[0])[1]
        finally:
            failed.clear()  # an error keeps its frames, and the frames would keep the error


def _start(threads: list[threading.Thread], count: int, target: Callable[[], None]) -> None:
    """Start ``count`` threads, or as many as the system grants."""
    for _ in range(count):
        threads.append(threading.Thread(target=target, name="gpurender"))  # before a Ctrl-C can interrupt its start
        try:
            threads[-1].start()
        except RuntimeError:  # a limit of the system, or interpreter shutdown; the next loop tries again
            threads.pop()
            return


def _join(thread: threading.Thread) -> None:
    """Wait for a thread, unless it has not begun: such a thread will find no work left."""
    while thread.ident is not None:
        try:
            thread.join()
            return
        except RuntimeError:  # the thread has begun, and is about to report that
            time.sleep(0)
