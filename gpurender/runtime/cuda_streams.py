"""What goes from the host to a stream, and from one stream of a GPU to another.

Streams of a GPU run beside each other. What one of them makes is there for another only once that one has got so far,
and torch's allocator gives memory back to the stream that asked for it, whoever else may still be reading. A renderer
may be used from several streams, so what it makes once and keeps (catalog, label tables, kept bitmaps) is waited for
when it is made (:func:`settle`), and the allocator is told of every stream that reads it (:func:`lend`).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from gpurender.runtime import devices


def settle(device: torch.device) -> None:
    """Wait until the current stream of a GPU has done all it was given: what it made may be read by any other."""
    if devices.on_gpu(device):
        torch.cuda.current_stream(device).synchronize()


def lend(kept: Any, device: torch.device) -> None:
    """Tell torch's allocator that the current stream of a GPU reads the tensors of ``kept``.

    Args:
        kept: a tensor, or a list or a dataclass that holds some, at any depth; all else is passed over.
        device: where they are.
    """
    if devices.on_gpu(device):
        stream = torch.cuda.current_stream(device)
        for tensor in tensors_of(kept):
            tensor.record_stream(stream)  # on the stream that asked for the memory it does nothing


def tensors_of(kept: Any) -> Iterator[torch.Tensor]:
    """The tensors of a tensor, a list or a dataclass."""
    if isinstance(kept, torch.Tensor):
        yield kept
    elif isinstance(kept, list):
        for part in kept:
            yield from tensors_of(part)
    elif dataclasses.is_dataclass(kept):
        for field in dataclasses.fields(kept):
            yield from tensors_of(getattr(kept, field.name))


def pinned(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return what the host has chosen as it is best copied from to the device, with ``non_blocking=True``.

    For a GPU a copy in pinned memory: CUDA copies from that alone without the host. From any other it may wait for the
    stream, in which a training step stands before a batch. The pinned memory is torch's, whose allocator gives it to
    nobody else until the copy is over and then to the next batch, so the host may let it go at once.
    """
    return values.pin_memory() if devices.on_gpu(device) else values
