"""A user's sampler as a plan: its indices are followed and checked, and their digest is kept for the state."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from gpurender.kernels.shuffle import last_epoch
from gpurender.loading.cursor import Place
from gpurender.loading.plan import HostIndices, IndexBatch
from gpurender.loading.ranks import Ranks
from gpurender.util import checks

CHUNK = 1 << 16  # indices skipped at a time
MAX_POSITIONS = 2**40  # positions per epoch, of all ranks; draw ids are epoch * MAX_POSITIONS + position


def _digest() -> Any:
    return hashlib.blake2b(digest_size=8)


class SamplerPlan:
    """The order of a user's ``sampler`` or ``batch_sampler``: any iterable of indices, or of lists of indices.

    As in torch the iterable is iterated again in every epoch, and this rank renders all indices that it gives: they are
    not divided among ranks. One more batch than was handed out is taken from it, to know which batch is the last.

    Args:
        sampler, batch_sampler: one of the two; the other is ``None``.
        batch_size, drop_last: of the loader; without effect if a ``batch_sampler`` is given.
        length: number of samples of the recipe.

    Attributes:
        name: ``"sampler"`` or ``"batch_sampler"``.
        source: that iterable.
    """

    def __init__(self, sampler: Any, batch_sampler: Any, batch_size: int, drop_last: bool, length: int) -> None:
        name, source = ("sampler", sampler) if batch_sampler is None else ("batch_sampler", batch_sampler)
        if not isinstance(source, Iterable) or getattr(source, "ndim", 1) == 0:
            of = "indices" if batch_sampler is None else "lists of indices"
            raise TypeError(f"{name} must be an iterable of {of}, got {checks.shown(source)}")
        self.name = name
        self.source: Any = source
        self._lists = batch_sampler is not None
        self._batch_size, self._drop_last, self._length = batch_size, drop_last, length

    def last_epoch(self) -> int:
        return last_epoch(MAX_POSITIONS)

    first = Place()

    def pass_number(self, place: Place) -> int:
        return place.epoch

    def seek(self, pass_number: int, ranks: Callable[[], Ranks]) -> Place:
        return Place(pass_number)

    def restart(self, place: Place) -> Place:
        return Place(place.epoch)

    def next_pass(self, place: Place) -> Place:
        return Place(place.epoch + 1, 0, place.digest)

    def steps(self, ranks: Callable[[], Ranks]) -> int:
        """Return the number of batches of a whole epoch, which follows from the sampler's own length."""
        given = len(self.source)
        if self._lists:
            return given
        return given // self._batch_size if self._drop_last else -(-given // self._batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Call ``set_epoch`` of the sampler, and of a batch sampler's sampler, if they have it."""
        for sampler in (self.source, getattr(self.source, "sampler", None)):
            told = getattr(sampler, "set_epoch", None)
            if told is not None:
                told(epoch)

    def batches(self, start: Place, ranks: Ranks) -> Iterator[IndexBatch]:
        """Yield the batches after a place. The indices before it are consumed but not rendered.

        A sampler may give an index twice. So that no two images are augmented alike (nor, if fresh, rendered alike),
        the draw ids of a sample come from its place, counted among all ranks, not from its index.

        Raises:
            TypeError, ValueError: an index is not that of a sample, or the epoch has too many indices.
            RuntimeError: the sampler gives other indices than before the state was saved.
        """
        epoch = start.epoch
        for indices, position, digest in self._given(start):
            first = position - len(indices)
            if position * ranks.world_size > MAX_POSITIONS:
                raise ValueError(f"{self.name} must give fewer than {MAX_POSITIONS} indices per epoch")
            ids = np.arange(first, position, dtype=np.int64) * ranks.world_size + ranks.rank + epoch * MAX_POSITIONS
            host = HostIndices(indices, ids, ids)
            yield IndexBatch(epoch, epoch, first, len(indices), len(indices), host, Place(epoch, position, digest))

    def index_lists(self, start: Place, ranks: Ranks) -> Iterator[np.ndarray]:
        return (indices for indices, _, _ in self._given(start))

    def _given(self, start: Place) -> Iterator[tuple[np.ndarray, int, str]]:
        """Yield the indices of each batch after a place, the position after the batch, and the digest up to it."""
        epoch, position, expected, _ = start
        if expected:
            source, digest = self._find(epoch, position, expected)
        else:
            source, digest = iter(self.source), _digest()
            self._pass_over(source, position, digest)
        for given in source if self._lists else self._cut(source):
            indices = self._checked(given)
            digest.update(indices.tobytes())
            position += len(indices)
            yield indices, position, digest.hexdigest()

    def _cut(self, source: Iterator[Any]) -> Iterator[list[Any]]:
        while indices := list(islice(source, self._batch_size)):
            if len(indices) == self._batch_size or not self._drop_last:
                yield indices

    def _find(self, epoch: int, position: int, expected: str) -> tuple[Iterator[Any], Any]:
        """Return the sampler's iterator after a position whose digest is known, and the digest up to that position.

        A sampler that has ``set_epoch`` gives the same indices for the same epoch. Another sampler may give different
        indices every time, drawn from a seeded generator, for example: it is iterated as often as before the state was
        saved. At position 0 the digest is that of the previous epoch.
        """
        told = any(hasattr(x, "set_epoch") for x in (self.source, getattr(self.source, "sampler", None)))
        if told and not position:
            return iter(self.source), _digest()
        for _ in range(1 if told else epoch + (position > 0)):
            source, digest = iter(self.source), _digest()
            self._pass_over(source, position, digest)
            if not position:
                for given in source if self._lists else self._cut(source):
                    digest.update(self._checked(given).tobytes())
            if digest.hexdigest() == expected:
                return (source, digest) if position else (iter(self.source), _digest())
            deque(source, maxlen=0)  # its generator has then advanced by a whole epoch
        raise RuntimeError(
            f"{self.name} gives other indices than before the state was saved: none of its passes has the digest "
            f"{expected} that is in the state; what it gives must depend on its seed and epoch alone"
        )

    def _pass_over(self, source: Iterator[Any], count: int, digest: Any) -> None:
        """Consume the first ``count`` indices."""
        while count > 0:
            taken = next(source, None) if self._lists else list(islice(source, min(count, CHUNK))) or None
            indices = np.empty(0, np.int64) if taken is None else self._checked(taken)
            count -= len(indices)
            if not len(indices) or count < 0:
                raise RuntimeError(
                    f"{self.name} gives other batches than before the state was saved: too few, or cut elsewhere"
                )
            digest.update(indices.tobytes())

    def _checked(self, given: Any) -> np.ndarray:
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise TypeError(f"{self.name} must give lists of indices, got {checks.shown(given)}")
        indices = given if isinstance(given, np.ndarray) else list(given)
        if not len(indices):
            raise ValueError(f"{self.name} must give lists of at least one index, got an empty one")
        return checks.integers(f"{self.name}'s indices", indices, self._length - 1).astype(np.int64)
