"""A loader's batches for consumers of DLPack, the exchange of arrays between frameworks on one device."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

Arrays = torch.Tensor | tuple[torch.Tensor, ...]


class DLPackBatches(Iterable[tuple[Arrays, torch.Tensor]]):
    """The batches of a loader as objects with ``__dlpack__`` and ``__dlpack_device__``, which own their memory.

    The objects are torch's tensors in row-major order, as JAX needs them (batches in ``channels_last`` are copied for
    it). A consumer that imports a batch in the loop's own thread gets it in stream order: its stream waits for torch's,
    for which the loader has made the batch ready. With several views, images are a tuple. Nothing is copied here; JAX
    itself copies memory of a CPU that is not aligned to 64 bytes, and int64 targets unless its 64-bit types are on.

    Args:
        loader: a ``gr.DataLoader`` without ``collate_fn``.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Arrays, torch.Tensor]]:
        for images, targets in self._loader:
            views = images if isinstance(images, list) else [images]
            arrays = tuple(view.contiguous() for view in views)
            yield (arrays if isinstance(images, list) else arrays[0]), targets.contiguous()
