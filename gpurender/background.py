"""Drawing ahead on a CPU: a thread draws the next batches while the model trains on this one.

The kernels release the GIL, so the thread runs beside the consumer; what it costs the training step is the cores that
both want. There is one thread a loader, so batches of several passes are drawn one after the other. It ends with the
loader. A process that is forked has none of its parent's threads: the loader makes itself a new one there.
"""

import atexit
import concurrent.futures
import threading
import weakref
from collections.abc import Callable

from gpurender.ahead import BatchTimeoutError
from gpurender.batches import Batch

Ready = concurrent.futures.Future[Batch]


class Background:
    """The producer of one loader on a CPU."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="gpurender-ahead")
        _running.add(self)

    def start(self, draw: Callable[[], Batch]) -> Ready:
        """Let the thread draw, behind what it was given before."""
        return self._pool.submit(draw)

    def hand_over(self, ready: Ready, timeout: float = 0) -> Batch:
        """The batch; what the thread raised is raised here, with its traceback.

        Raises:
            RuntimeError: with a timeout: the batch was not drawn in that many seconds.
        """
        concurrent.futures.wait([ready], timeout or None)  # a KeyboardInterrupt ends it at once
        if not ready.done():
            raise BatchTimeoutError(timeout)
        return ready.result()

    def drop(self, ready: Ready) -> None:
        """Do not draw it, if that has not begun."""
        ready.cancel()

    def stop(self) -> None:
        """Draw nothing more than what has begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


_running: weakref.WeakSet[Background] = weakref.WeakSet()


def _stop_all() -> None:
    """At the interpreter's end, where concurrent.futures would have everything drawn that is still waiting."""
    for background in list(_running):
        background.stop()


# What threading calls comes before concurrent.futures joins its threads; atexit comes after. Python has no public name.
getattr(threading, "_register_atexit", atexit.register)(_stop_all)
