"""Samplers of torch's kind: views of a plan for code that looks at a loader."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpurender.loading.cursor import Cursor
from gpurender.loading.plan import OrderedPlan, Plan
from gpurender.loading.ranks import Ranks


class BatchSampler:
    """The lists of indices that make this rank's batches of the coming pass.

    Args:
        plan, cursor, ranks: of the loader.
        sampler: the loader's.
        batch_size, drop_last: of the loader.
        set_epoch: the loader's.
    """

    def __init__(
        self,
        plan: Plan,
        cursor: Cursor,
        ranks: Callable[[], Ranks],
        *,
        sampler: Any,
        batch_size: int,
        drop_last: bool,
        set_epoch: Callable[[int], None],
    ) -> None:
        self._plan, self._cursor, self._ranks = plan, cursor, ranks
        self.sampler, self.batch_size, self.drop_last, self.set_epoch = sampler, batch_size, drop_last, set_epoch

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._plan.steps(self._ranks)

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self._plan.index_lists(self._cursor.start(), self._ranks()):
            yield indices.tolist()


class Sampler(torch.utils.data.Sampler[int]):
    """This rank's indices of the coming pass, in the order in which they are rendered.

    Args:
        plan, cursor, ranks: of the loader.
        data_source: its dataset.
        set_epoch: the loader's.
    """

    def __init__(
        self,
        plan: OrderedPlan,
        cursor: Cursor,
        ranks: Callable[[], Ranks],
        data_source: Any,
        set_epoch: Callable[[int], None],
    ) -> None:
        self._plan, self._cursor, self._ranks = plan, cursor, ranks
        self.data_source, self.set_epoch = data_source, set_epoch

    def __len__(self) -> int:
        """Samples that this rank is given in a whole epoch."""
        return self._plan.samples(self._ranks())

    def __iter__(self) -> Iterator[int]:
        for indices in self._plan.index_lists(self._cursor.start(), self._ranks()):
            yield from indices.tolist()


class InOrder(Sampler, torch.utils.data.SequentialSampler):
    """The sampler of a loader that does not shuffle: Lightning looks for it before it repeats the same batches."""


class Shuffled(Sampler, torch.utils.data.RandomSampler):
    """The sampler of a loader that shuffles: Lightning warns of it in a loader for validation."""

    replacement = False
    generator = None  # the order is keyed by seed and epoch

    @property
    def num_samples(self) -> int:
        """``len`` of it."""
        return len(self)
