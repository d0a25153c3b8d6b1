"""Drawing ahead: a GPU draws the next batch while the model trains on this one.

Two streams, and events between them. The consumer is whatever stream torch works on when it asks for a batch; the
producer is a stream of the loader's own, one for its life.

- The producer waits for the consumer: what it draws now comes behind all that the consumer had enqueued when it asked.
  So the next batch is drawn beside the step that trains on this one, not arbitrarily far ahead, and memory that the
  consumer has let go is not written to before it has been read. Wrappers that look ahead ask on a stream of theirs and
  train on the default one, so the producer waits for that as well.
- The consumer waits for the producer: a batch is handed over with the event behind its last kernel. The host waits for
  nothing, unless a timeout asks it to.
- A batch belongs to torch's allocator, which is told that the consumer's stream uses it (``record_stream``): it is not
  given away before that stream has done so, however long the consumer keeps it.

On a CPU the same is done by a thread (:mod:`gpurender.loading.background`), where it is asked for.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch

from gpurender.loading.pipeline import Batch

POLL = 0.0005  # seconds between two looks at an event that has a timeout


class Producer(Protocol):
    """What draws batches that are not needed yet, one after the other."""

    def start(self, draw: Callable[[], Batch]) -> Any:
        """A batch under way."""
        ...

    def hand_over(self, ready: Any, timeout: float) -> Batch:
        """It, waited for ``timeout`` seconds at most (0: as long as it takes)."""
        ...

    def drop(self, ready: Any) -> None:
        """It is not wanted any more."""
        ...


class BatchTimeoutError(RuntimeError):
    """A batch did not come in time; it is still being drawn."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"DataLoader timed out: no batch after {timeout:g} seconds (timeout={timeout:g})")


class Ready(NamedTuple):
    """A batch under way, and the event behind it."""

    batch: Batch
    done: torch.cuda.Event


class Ahead:
    """The producer of one loader on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device, priority=0)  # 0 is CUDA's lowest

    def start(self, draw: Callable[[], Batch]) -> Ready:
        """Enqueue what ``draw`` launches, behind what the consumer has enqueued so far."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._stream.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            batch = draw()
            done = torch.cuda.Event()
            done.record(self._stream)
        return Ready(batch, done)

    def hand_over(self, ready: Ready, timeout: float = 0) -> Batch:
        """The batch, for the stream that torch works on now.

        Raises:
            RuntimeError: with a timeout: the GPU has not drawn it in that many seconds.
        """
        if timeout:
            end = time.monotonic() + timeout
            while not ready.done.query():
                if time.monotonic() > end:
                    raise BatchTimeoutError(timeout)
                time.sleep(POLL)
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(ready.done)
        images, targets = ready.batch
        for tensor in (*(images if isinstance(images, list) else [images]), targets):
            tensor.record_stream(consumer)
        return ready.batch

    def drop(self, ready: Ready) -> None:
        """Nothing is to be done: the allocator takes it back in the order of the stream."""
