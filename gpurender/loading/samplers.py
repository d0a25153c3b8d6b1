"""Samplers: the numbers that make a loader's batches, its own (to be looked at) and a user's (to be followed)."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from gpurender.util import checks

if TYPE_CHECKING:
    from gpurender.loading.data_loader import DataLoader

CHUNK = 1 << 16  # numbers passed over at a time
NOTHING = ""  # the mark of an epoch of which nothing has been given


class BatchSampler:
    """The lists of sample numbers that make this rank's batches of the coming pass."""

    def __init__(self, loader: "DataLoader") -> None:
        self._loader = loader

    @property
    def sampler(self) -> Any:
        """The numbers themselves."""
        return self._loader.sampler

    @property
    def batch_size(self) -> int:
        """Samples of a batch on this rank."""
        return self._loader._batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self._loader.drop_last

    def set_epoch(self, epoch: int) -> None:
        """The loader's ``set_epoch``."""
        self._loader.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[int]]:
        loader, world = self._loader, self._loader._world()
        epoch, position, mark = loader._start()
        if loader._given is not None:
            yield from (numbers.samples.tolist() for numbers in loader._given.batches(epoch, position, mark))
            return
        while len(positions := loader._share(position, world)):
            yield loader._samples(epoch, positions).tolist()
            position += loader._batch_size * world.world_size


class Sampler(torch.utils.data.Sampler[int]):
    """This rank's sample numbers of the coming pass, in the order they are drawn."""

    def __init__(self, loader: "DataLoader") -> None:
        self._loader = loader
        self.data_source: Any = loader.dataset

    def set_epoch(self, epoch: int) -> None:
        """The loader's ``set_epoch``."""
        self._loader.set_epoch(epoch)

    def __len__(self) -> int:
        """Samples that this rank draws in a whole epoch."""
        loader, world = self._loader, self._loader._world()
        before = len(loader) - 1  # full batches before the last one, which may be smaller
        if before < 0:
            return 0
        last = loader._share(before * loader._batch_size * world.world_size, world)
        return before * loader._batch_size + len(last)

    def __iter__(self) -> Iterator[int]:
        for samples in BatchSampler(self._loader):
            yield from samples


class InOrder(Sampler, torch.utils.data.SequentialSampler):
    """Those of a loader that does not shuffle: what Lightning looks for before it repeats the same batches."""


class Shuffled(Sampler, torch.utils.data.RandomSampler):
    """Those of a loader that shuffles: what Lightning warns of in a loader for validation."""

    replacement = False
    generator = None  # the order is keyed by seed and epoch

    @property
    def num_samples(self) -> int:
        """``len`` of it."""
        return len(self)


class Numbers(NamedTuple):
    """The numbers of a batch and the place behind it.

    Attributes:
        samples: int64 ``[b]``.
        position: how many the sampler has given in this epoch, these included.
        mark: a digest of all of them: what a state is checked with.
    """

    samples: np.ndarray
    position: int
    mark: str


def _digest() -> Any:
    return hashlib.blake2b(digest_size=8)


class Given:
    """A user's ``sampler`` or ``batch_sampler``: any iterable of sample numbers, or of lists of them.

    As in torch it is asked anew for every epoch, and what it gives is what this rank draws: a loader that follows it
    shares nothing out among ranks. It is asked for one batch more than has been handed out, to know which is the last.
    """

    def __init__(self, sampler: Any, batch_sampler: Any, batch_size: int, drop_last: bool, length: int) -> None:
        name, source = ("sampler", sampler) if batch_sampler is None else ("batch_sampler", batch_sampler)
        if not isinstance(source, Iterable) or getattr(source, "ndim", 1) == 0:
            of = "sample numbers" if batch_sampler is None else "lists of sample numbers"
            raise TypeError(f"{name} must be an iterable of {of}, got {checks.shown(source)}")
        self.name = name
        self.source: Any = source
        self._lists = batch_sampler is not None
        self._batch_size, self._drop_last, self._length = batch_size, drop_last, length

    def __len__(self) -> int:
        """Batches of an epoch."""
        given = len(self.source)
        if self._lists:
            return given
        return given // self._batch_size if self._drop_last else -(-given // self._batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Tell the sampler, if it wants to know."""
        for sampler in (self.source, getattr(self.source, "sampler", None)):
            told = getattr(sampler, "set_epoch", None)
            if told is not None:
                told(epoch)

    def batches(self, epoch: int, position: int, mark: str | None) -> Iterator[Numbers]:
        """The batches of an epoch behind a position, whose numbers are passed over.

        Args:
            mark: digest of the numbers before the position; at position 0, of those of the epoch before. ``None`` or
                empty: not known.

        Raises:
            TypeError, ValueError: a number is no sample's.
            RuntimeError: the sampler has other numbers than it had when the state was saved.
        """
        if mark:
            source, digest = self._found(epoch, position, mark)
        else:
            source, digest = iter(self.source), _digest()
            self._pass_over(source, position, digest)
        for numbers in source if self._lists else self._cut(source):
            samples = self._checked(numbers)
            digest.update(samples.tobytes())
            position += len(samples)
            yield Numbers(samples, position, digest.hexdigest())

    def _cut(self, source: Iterator[Any]) -> Iterator[list[Any]]:
        while numbers := list(islice(source, self._batch_size)):
            if len(numbers) == self._batch_size or not self._drop_last:
                yield numbers

    def _found(self, epoch: int, position: int, mark: str) -> tuple[Iterator[Any], Any]:
        """What the sampler gives behind a position whose mark is known, and the digest of what it gave before.

        A sampler that knows ``set_epoch`` gives the same for the same epoch. Another may give something else every
        time, drawn from a seeded generator, say: it is asked as often as before the state was saved.
        """
        told = any(hasattr(x, "set_epoch") for x in (self.source, getattr(self.source, "sampler", None)))
        if told and not position:
            return iter(self.source), _digest()
        for _ in range(1 if told else epoch + (position > 0)):
            source, digest = iter(self.source), _digest()
            self._pass_over(source, position, digest)
            if not position:
                for numbers in source if self._lists else self._cut(source):
                    digest.update(self._checked(numbers).tobytes())
            if digest.hexdigest() == mark:
                return (source, digest) if position else (iter(self.source), _digest())
            deque(source, maxlen=0)  # its generator has then moved on by a whole epoch
        raise RuntimeError(
            f"{self.name} gives other numbers than before the state was saved: none of its passes has the digest "
            f"{mark} that is in the state; what it gives must depend on its seed and epoch alone"
        )

    def _pass_over(self, source: Iterator[Any], count: int, digest: Any) -> None:
        """Take the first ``count`` numbers."""
        while count > 0:
            taken = next(source, None) if self._lists else list(islice(source, min(count, CHUNK))) or None
            numbers = np.empty(0, np.int64) if taken is None else self._checked(taken)
            count -= len(numbers)
            if not len(numbers) or count < 0:
                raise RuntimeError(
                    f"{self.name} gives other batches than before the state was saved: too few, or cut elsewhere"
                )
            digest.update(numbers.tobytes())

    def _checked(self, numbers: Any) -> np.ndarray:
        if isinstance(numbers, (str, bytes)) or not isinstance(numbers, Iterable):
            raise TypeError(f"{self.name} must give lists of sample numbers, got {checks.shown(numbers)}")
        numbers = numbers if isinstance(numbers, np.ndarray) else list(numbers)
        if not len(numbers):
            raise ValueError(f"{self.name} must give lists of at least one sample number, got an empty one")
        return checks.integers(f"{self.name}'s numbers", numbers, self._length - 1).astype(np.int64)
