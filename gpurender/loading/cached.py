"""Cached: the headspace test, a loader whose first batches are kept and repeated."""

from collections.abc import Iterator
from typing import Any

from gpurender.util import checks, keywords

__all__ = ["Cached"]


@keywords.checked
class Cached:
    """The first batches of a loader, kept on their device and repeated: a loader that costs nothing.

    What a training gains with it is all that any faster loader could bring (the headspace):

    >>> for images, targets in gr.Cached(loader, batches=4):
    ...     train_step(images, targets)

    A pass has as many batches as a pass of the loader. The tensors are the same ones each time: a step that changes
    them in place changes what is repeated.

    Args:
        loader: a ``gr.DataLoader``, or any iterable with a length.
        batches: number of batches that are kept, at most those of a pass.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(self, loader: Any, *, batches: int = 1) -> None:
        self._length = _length(loader)
        self._count = checks.integer("batches", batches, 1, max(1, self._length))
        self._loader = loader
        self._kept: list[Any] = []

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Cached({self._loader!r}, batches={self._count})"

    def __iter__(self) -> Iterator[Any]:
        if not self._kept:
            self._kept = [batch for _, batch in zip(range(self._count), self._loader, strict=False)]
        for number in range(self._length if self._kept else 0):
            yield self._kept[number % len(self._kept)]  # the rest of a resumed pass may have fewer

    @property
    def batch_size(self) -> Any:
        """The loader's."""
        return getattr(self._loader, "batch_size", None)

    @property
    def dataset(self) -> Any:
        """The loader's."""
        return getattr(self._loader, "dataset", None)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every pass has the same batches."""


def _length(loader: Any) -> int:
    try:
        return len(loader)
    except Exception:
        raise TypeError(f"loader must be a gr.DataLoader with a length, got {checks.shown(loader)}") from None
