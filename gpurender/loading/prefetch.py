"""Prefetching: the next batches are rendered while the model trains on the current one.

**On a GPU** there are two CUDA streams, with events between them. The consumer is torch's current stream at the time of
a request for a batch; the producer is a separate stream of the loader, the same one for the loader's lifetime.

- The producer waits for the consumer: a batch is rendered after all work that the consumer had enqueued at the request.
  So the next batch is rendered concurrently with the step that trains on the current one, not arbitrarily early, and
  memory that the consumer has released is not written to before it has been read. Wrappers with prefetching request
  batches on their own stream and train on the default one, so the producer waits for the default stream as well.
- The consumer waits for the producer: a batch is handed over with the event after its last kernel. The host waits for
  nothing, unless a timeout requires it.
- A batch belongs to torch's allocator, which is notified that the consumer's stream uses it (``record_stream``): the
  memory is not reused before that stream has finished using it, however long the consumer keeps the batch.

**On a CPU** a thread renders the batches, if prefetching is requested. The kernels release the GIL, so the thread runs
concurrently with the consumer; it competes with the training step for CPU cores. There is one thread per loader, so
batches of several passes are rendered one after the other. The thread ends with the loader. A forked process has none
of its parent's threads: the loader makes a new thread in the forked process. If the system refuses to start a thread,
the consumer renders the batch, and the next batch tries to start a thread again.
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

POLL = 0.0005  # seconds between two queries of an event during a timeout
LOOK = 0.5  # seconds: maximum delay of Ctrl-C during a wait, if the system gave the signal to a rendering thread


class Prefetcher(Protocol):
    """Renders batches in advance, one after the other."""

    def start(self, render: Callable[[], Batch]) -> Any:
        """Start rendering a batch and return a handle."""
        ...

    def hand_over(self, handle: Any, timeout: float) -> Batch:
        """Return the batch of a handle, waiting at most ``timeout`` seconds (0: no limit)."""
        ...

    def ready(self, handle: Any) -> bool:
        """Return whether a handle's batch is finished, without waiting."""
        ...

    def drop(self, handle: Any) -> None:
        """Discard a handle."""
        ...


class Prefetching(NamedTuple):
    """How batches are prefetched.

    Attributes:
        prefetcher: renders the batches; ``None``: nothing is prefetched.
        depth: number of batches that are prefetched after the one that is handed out.
        timeout: maximum seconds to wait for a batch; 0: no limit.
    """

    prefetcher: Prefetcher | None
    depth: int
    timeout: float


class BatchTimeoutError(RuntimeError):
    """Raised when a batch was not ready in time; the batch is still being rendered."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"DataLoader timed out: no batch after {timeout:g} seconds (timeout={timeout:g})")


class StreamHandle(NamedTuple):
    """A batch whose kernels have been launched, and the event after them."""

    batch: Batch
    done: torch.cuda.Event


class StreamPrefetcher:
    """Renders the batches of one loader on a CUDA stream of one GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device, priority=0)  # 0 is CUDA's lowest

    def start(self, render: Callable[[], Batch]) -> StreamHandle:
        """Enqueue the launches of ``render`` after all work that the consumer has enqueued so far."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._stream.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            batch = render()
            done = torch.cuda.Event()
            done.record(self._stream)
        return StreamHandle(batch, done)

    def hand_over(self, handle: StreamHandle, timeout: float = 0) -> Batch:
        """Return the batch, ready for torch's current stream.

        Raises:
            RuntimeError: with a timeout: the GPU has not rendered the batch in that many seconds.
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

    def ready(self, handle: StreamHandle) -> bool:
        """Return whether the GPU has finished the batch."""
        return handle.done.query()

    def drop(self, handle: StreamHandle) -> None:
        """Do nothing: the allocator frees the batch in stream order."""


class ThreadHandle(NamedTuple):
    """A batch that a thread renders.

    Attributes:
        render: renders the batch.
        future: result of the thread; ``None`` if there is no thread.
    """

    render: Callable[[], Batch]
    future: concurrent.futures.Future[Batch] | None


class ThreadPrefetcher:
    """Renders the batches of one loader in a thread."""

    def __init__(self) -> None:
        self._pool = _pool()
        self._stopped = threading.Event()
        self._process = os.getpid()  # owner of the thread: what a dead thread held must not be touched
        _running.add(self)

    def start(self, render: Callable[[], Batch]) -> ThreadHandle:
        """Queue the batch for the thread, after the batches queued before."""
        try:
            return ThreadHandle(render, self._pool.submit(_render, render, self._stopped))
        except RuntimeError:  # no thread could be started, so the pool has none; or the interpreter is ending
            self._pool = _pool()  # without the batch that was queued in vain
            return ThreadHandle(render, None)

    def hand_over(self, handle: ThreadHandle, timeout: float = 0) -> Batch:
        """Return the batch, or raise the thread's error with its traceback.

        Raises:
            RuntimeError: with a timeout: the batch was not rendered in that many seconds.
        """
        if handle.future is not None:
            over = threading.Event()
            handle.future.add_done_callback(lambda _: over.set())
            end = time.monotonic() + (timeout or math.inf)
            while not over.wait(min(LOOK, end - time.monotonic())):  # a KeyboardInterrupt ends the wait
                if time.monotonic() >= end:
                    raise BatchTimeoutError(timeout)
            if not (handle.future.cancelled() or isinstance(handle.future.exception(), threads.StoppedError)):
                return handle.future.result()
        return handle.render()

    def ready(self, handle: ThreadHandle) -> bool:
        """Return whether the thread has finished the batch."""
        return handle.future is not None and handle.future.done()

    def drop(self, handle: ThreadHandle) -> None:
        """Cancel the batch, if its rendering has not begun."""
        if handle.future is not None and self._process == os.getpid():
            handle.future.cancel()

    def stop(self) -> None:
        """Stop rendering, except for images that have begun."""
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
    """Stop the threads at the interpreter's end: concurrent.futures would render every batch that is still queued.

    Another thread may still request batches then: it renders them itself.
    """
    for prefetcher in list(_running):
        prefetcher.stop()


# threading's exit calls come before concurrent.futures joins its threads, atexit's after. Python has no public name.
getattr(threading, "_register_atexit", atexit.register)(_stop_all)
