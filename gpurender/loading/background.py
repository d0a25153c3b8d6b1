"""Drawing ahead on a CPU: a thread draws the next batches while the model trains on this one.

The kernels release the GIL, so the thread runs beside the consumer; what it costs the training step is the cores that
both want. There is one thread a loader, so batches of several passes are drawn one after the other. It ends with the
loader. A process that is forked has none of its parent's threads: the loader makes itself a new one there. Where the
system gives no thread, the consumer draws, and the next batch asks for one again.
"""

import atexit
import concurrent.futures
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

from gpurender.loading.pipeline import Batch
from gpurender.loading.prefetch import BatchTimeoutError
from gpurender.runtime import threads

LOOK = 0.5  # seconds: how late Ctrl-C ends a wait if the system gave the signal to a thread that draws


class Ready(NamedTuple):
    """A batch under way.

    Attributes:
        draw: draws it.
        drawn: it, when the thread has done so; ``None`` where there is no thread.
    """

    draw: Callable[[], Batch]
    drawn: concurrent.futures.Future[Batch] | None


class Background:
    """The producer of one loader on a CPU."""

    def __init__(self) -> None:
        self._pool = _pool()
        self._stopped = threading.Event()
        self._process = os.getpid()  # whose thread it is: what a dead thread held is not to be touched
        _running.add(self)

    def start(self, draw: Callable[[], Batch]) -> Ready:
        """Let the thread draw, behind what it was given before."""
        try:
            return Ready(draw, self._pool.submit(_draw, draw, self._stopped))
        except RuntimeError:  # no thread could be started, so this pool has none; or the interpreter ends
            self._pool = _pool()  # without the work that was queued in vain
            return Ready(draw, None)

    def hand_over(self, ready: Ready, timeout: float = 0) -> Batch:
        """The batch; what the thread raised is raised here, with its traceback.

        Raises:
            RuntimeError: with a timeout: the batch was not drawn in that many seconds.
        """
        if ready.drawn is not None:
            over = threading.Event()
            ready.drawn.add_done_callback(lambda _: over.set())
            end = time.monotonic() + (timeout or math.inf)
            while not over.wait(min(LOOK, end - time.monotonic())):  # a KeyboardInterrupt ends it
                if time.monotonic() >= end:
                    raise BatchTimeoutError(timeout)
            if not (ready.drawn.cancelled() or isinstance(ready.drawn.exception(), threads.StoppedError)):
                return ready.drawn.result()
        return ready.draw()

    def drop(self, ready: Ready) -> None:
        """Do not draw it, if that has not begun."""
        if ready.drawn is not None and self._process == os.getpid():
            ready.drawn.cancel()

    def stop(self) -> None:
        """Draw nothing more than the images that have begun."""
        if self._process == os.getpid():
            self._stopped.set()
            self._pool.shutdown(wait=False, cancel_futures=True)


def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="gpurender-ahead")


def _draw(draw: Callable[[], Batch], stopped: threading.Event) -> Batch:
    with threads.stopped_by(stopped):
        return draw()


_running: weakref.WeakSet[Background] = weakref.WeakSet()


def _stop_all() -> None:
    """At the interpreter's end, where concurrent.futures would have everything drawn that is still waiting.

    Another thread may still ask for batches then: it draws them itself.
    """
    for background in list(_running):
        background.stop()


# What threading calls comes before concurrent.futures joins its threads; atexit comes after. Python has no public name.
getattr(threading, "_register_atexit", atexit.register)(_stop_all)
