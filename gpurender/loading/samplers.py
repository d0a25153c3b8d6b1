"""Samplers with torch's interface: views of a plan for code that inspects a loader."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpurender.loading.cursor import Cursor
from gpurender.loading.plan import OrderedPlan, Plan
from gpurender.loading.ranks import Ranks
from gpurender.loading.steps_plan import StepsPlan


class BatchSampler:
    """The lists of indices that make this rank's batches of the next pass.

    Args:
        plan, cursor, ranks: of the loader.
        sampler: the loader's sampler.
        batch_size, drop_last: of the loader.
        set_epoch: the loader's method.
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
        """Return the number of batches of a whole pass."""
        return self._plan.steps(self._ranks)

    def __iter__(self) -> Iterator[list[int]]:
        for indices in self._plan.index_lists(self._cursor.start(self._plan.restart), self._ranks()):
            yield indices.tolist()


class Sampler(torch.utils.data.Sampler[int]):
    """This rank's indices of the next pass, in the order in which they are rendered.

    Args:
        plan, cursor, ranks: of the loader.
        data_source: the loader's dataset.
        set_epoch: the loader's method.
    """

    def __init__(
        self,
        plan: OrderedPlan | StepsPlan,
        cursor: Cursor,
        ranks: Callable[[], Ranks],
        data_source: Any,
        set_epoch: Callable[[int], None],
    ) -> None:
        self._plan, self._cursor, self._ranks = plan, cursor, ranks
        self.data_source, self.set_epoch = data_source, set_epoch

    def __len__(self) -> int:
        """Return the number of samples that this rank gets in a whole epoch."""
        return self._plan.samples(self._ranks())

    def __iter__(self) -> Iterator[int]:
        for indices in self._plan.index_lists(self._cursor.start(self._plan.restart), self._ranks()):
            yield from indices.tolist()


class InOrder(Sampler, torch.utils.data.SequentialSampler):
    """The sampler of a loader that does not shuffle: Lightning checks its type before it repeats the same batches."""


class Shuffled(Sampler, torch.utils.data.RandomSampler):
    """The sampler of a loader that shuffles: Lightning warns about its type in a loader for validation."""

    replacement = False
    generator = None  # the order is keyed by seed and epoch

    @property
    def num_samples(self) -> int:
        """The number of samples, ``len(self)``."""
        return len(self)
