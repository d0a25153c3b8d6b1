"""Drawing ahead: a GPU draws the next batch while the model trains on this one.

Two streams, and events between them. The consumer is whatever stream torch works on when it asks for a batch; the
producer is a stream of the loader's own, one for its life.

- The producer waits for the consumer: what it draws now comes behind all that the consumer had enqueued when it asked.
  So the next batch is drawn beside the step that trains on this one, not arbitrarily far ahead, and memory that the
  consumer has let go is not written to before it has been read. Wrappers that look ahead ask on a stream of theirs and
  train on the default one, so the producer waits for that as well.
- The consumer waits for the producer: a batch is handed over with the event behind its last kernel. The host waits for
  nothing.
- A batch belongs to torch's allocator, which is told that the consumer's stream uses it (``record_stream``): it is not
  given away before that stream has done so, however long the consumer keeps it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from gpurender.batches import Batch


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

    def hand_over(self, ready: Ready) -> Batch:
        """The batch, for the stream that torch works on now."""
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(ready.done)
        images, targets = ready.batch
        for tensor in (*(images if isinstance(images, list) else [images]), targets):
            tensor.record_stream(consumer)
        return ready.batch
