"""Transfers from the host to a CUDA stream, and from one stream of a GPU to another.

Streams of a GPU run concurrently. A result of one stream is available to another only after the first stream has
computed it, and torch's allocator returns memory to the stream that requested it, even if another stream still reads
it. A renderer may be used from several streams. So the renderer waits for the results that it makes once and keeps
(catalog, label tables, kept bitmaps) when it makes them (:func:`settle`), and informs the allocator of every stream
that reads them (:func:`lend`).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from gpurender.runtime import devices


def settle(device: torch.device) -> None:
    """Wait until the current stream of a GPU has finished all its work: any other stream may then read its results."""
    if devices.on_gpu(device):
        torch.cuda.current_stream(device).synchronize()


def lend(kept: Any, device: torch.device) -> None:
    """Tell torch's allocator that the current stream of a GPU reads the tensors of ``kept``.

    Args:
        kept: a tensor, or a list or a dataclass that contains tensors, at any depth; other values are skipped.
        device: the device of the tensors.
    """
    if devices.on_gpu(device):
        stream = torch.cuda.current_stream(device)
        for tensor in tensors_of(kept):
            tensor.record_stream(stream)  # does nothing on the stream that requested the memory


def tensors_of(kept: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a tensor, a list or a dataclass, at any depth."""
    if isinstance(kept, torch.Tensor):
        yield kept
    elif isinstance(kept, list):
        for part in kept:
            yield from tensors_of(part)
    elif dataclasses.is_dataclass(kept):
        for field in dataclasses.fields(kept):
            yield from tensors_of(getattr(kept, field.name))


def pinned(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values of the host in the memory best suited for a copy to the device with ``non_blocking=True``.

    For a GPU this is a copy in pinned memory, the only host memory from which CUDA copies without the host. A copy from
    other memory may wait for the stream, in which a training step is queued before a batch. Torch's allocator owns the
    pinned memory and reuses it only after the copy has ended, then for the next batch, so the host may release it at
    once.
    """
    return values.pin_memory() if devices.on_gpu(device) else values
