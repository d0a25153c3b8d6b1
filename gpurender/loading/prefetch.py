"""Prefetching: the next batches are rendered while the model trains on this one.

**On a GPU** there are two streams, and events between them. The consumer is whatever stream torch works on when it asks
for a batch; the producer is a stream of the loader's own, one for its life.

- The producer waits for the consumer: what it renders now comes after all that the consumer had enqueued when it asked.
  So the next batch is rendered beside the step that trains on this one, not arbitrarily far ahead, and memory that the
  consumer has released is not written to before it has been read. Wrappers that look ahead ask on a stream of theirs
  and train on the default one, so the producer waits for that as well.
- The consumer waits for the producer: a batch is handed over with the event behind its last kernel. The host waits for
  nothing, unless a timeout asks it to.
- A batch belongs to torch's allocator, which is told that the consumer's stream uses it (``record_stream``): the memory
  is not reused before that stream has done so, however long the consumer keeps it.

**On a CPU** a thread renders the batches, where that is asked for. The kernels release the GIL, so the thread runs
beside the consumer; it costs the training step the cores that both want. There is one thread per loader, so batches of
several passes are rendered one after the other. The thread ends with the loader. A forked process has none of its
parent's threads: the loader makes a new one there. Where the system gives no thread, the consumer renders, and the next
batch asks for a thread again.
"""

import atexit
import concurrent.futures
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from gpurender.loading.pipeline import Batch
from gpurender.runtime import threads

POLL = 0.0005  # seconds between two looks at an event that has a timeout
LOOK = 0.5  # seconds: how late Ctrl-C ends a wait if the system gave the signal to a thread that renders


class Prefetcher(Protocol):
    """Renders batches that are not needed yet, one after the other."""

    def start(self, render: Callable[[], Batch]) -> Any:
        """Start rendering a batch and return a handle."""
        ...

    def hand_over(self, handle: Any, timeout: float) -> Batch:
        """Return the batch of a handle, waiting at most ``timeout`` seconds (0: no limit)."""
        ...

    def drop(self, handle: Any) -> None:
        """Discard a handle."""
        ...


class Prefetching(NamedTuple):
    """How batches are rendered ahead.

    Attributes:
        prefetcher: renders them; ``None``: nothing is rendered ahead.
        depth: how many, ahead of the one that is handed out.
        timeout: seconds to wait for one; 0: no limit.
    """

    prefetcher: Prefetcher | None
    depth: int
    timeout: float


class BatchTimeoutError(RuntimeError):
    """A batch did not come in time; it is still being rendered."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"DataLoader timed out: no batch after {timeout:g} seconds (timeout={timeout:g})")


class StreamHandle(NamedTuple):
    """A batch whose kernels have been launched, and the event behind them."""

    batch: Batch
    done: torch.cuda.Event


class StreamPrefetcher:
    """Renders the batches of one loader on a stream of one GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device, priority=0)  # 0 is CUDA's lowest

    def start(self, render: Callable[[], Batch]) -> StreamHandle:
        """Enqueue what ``render`` launches, behind what the consumer has enqueued so far."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._stream.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            batch = render()
            done = torch.cuda.Event()
            done.record(self._stream)
        return StreamHandle(batch, done)

    def hand_over(self, handle: StreamHandle, timeout: float = 0) -> Batch:
        """Return the batch, for the stream that torch works on now.

        Raises:
            RuntimeError: with a timeout: the GPU has not rendered it in that many seconds.
        """
        if timeout:
            end = time.monotonic() + timeout
            while not handle.done.query():
                if time.monotonic() > end:
                    raise BatchTimeoutError(timeout)
                time.sleep(POLL)
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(handle.done)
        images, targets = handle.batch
        for tensor in (*(images if isinstance(images, list) else [images]), targets):
            tensor.record_stream(consumer)
        return handle.batch

    def drop(self, handle: StreamHandle) -> None:
        """Do nothing: the allocator takes the batch back in the order of the stream."""


class ThreadHandle(NamedTuple):
    """A batch that a thread renders.

    Attributes:
        render: renders it.
        future: of the thread's batch; ``None`` where there is no thread.
    """

    render: Callable[[], Batch]
    future: concurrent.futures.Future[Batch] | None


class ThreadPrefetcher:
    """Renders the batches of one loader in a thread."""

    def __init__(self) -> None:
        self._pool = _pool()
        self._stopped = threading.Event()
        self._process = os.getpid()  # whose thread it is: what a dead thread held is not to be touched
        _running.add(self)

    def start(self, render: Callable[[], Batch]) -> ThreadHandle:
        """Let the thread render, after what it was given before."""
        try:
            return ThreadHandle(render, self._pool.submit(_render, render, self._stopped))
        except RuntimeError:  # no thread could be started, so this pool has none; or the interpreter ends
            self._pool = _pool()  # without the work that was queued in vain
            return ThreadHandle(render, None)

    def hand_over(self, handle: ThreadHandle, timeout: float = 0) -> Batch:
        """Return the batch; an error of the thread is raised here, with its traceback.

        Raises:
            RuntimeError: with a timeout: the batch was not rendered in that many seconds.
        """
        if handle.future is not None:
            over = threading.Event()
            handle.future.add_done_callback(lambda _: over.set())
            end = time.monotonic() + (timeout or math.inf)
            while not over.wait(min(LOOK, end - time.monotonic())):  # a KeyboardInterrupt ends it
                if time.monotonic() >= end:
                    raise BatchTimeoutError(timeout)
            if not (handle.future.cancelled() or isinstance(handle.future.exception(), threads.StoppedError)):
                return handle.future.result()
        return handle.render()

    def drop(self, handle: ThreadHandle) -> None:
        """Do not render the batch, if that has not begun."""
        if handle.future is not None and self._process == os.getpid():
            handle.future.cancel()

    def stop(self) -> None:
        """Render nothing more than the images that have begun."""
        if self._process == os.getpid():
            self._stopped.set()
            self._pool.shutdown(wait=False, cancel_futures=True)


def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="gpurender-ahead")


def _render(render: Callable[[], Batch], stopped: threading.Event) -> Batch:
    with threads.stopped_by(stopped):
        return render()


_running: weakref.WeakSet[ThreadPrefetcher] = weakref.WeakSet()


def _stop_all() -> None:
    """At the interpreter's end, stop the threads: concurrent.futures would render everything that still waits.

    Another thread may still ask for batches then: it renders them itself.
    """
    for prefetcher in list(_running):
        prefetcher.stop()


# What threading calls comes before concurrent.futures joins its threads; atexit comes after. Python has no public name.
getattr(threading, "_register_atexit", atexit.register)(_stop_all)
