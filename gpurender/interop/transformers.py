"""Hugging Face transformers: a loader whose batches are a model's keywords and with which a ``Trainer`` can resume.

A Trainer takes its loader from ``get_train_dataloader``::

    from gpurender.interop.transformers import DataLoader

    class Pretraining(transformers.Trainer):
        def get_train_dataloader(self):
            return DataLoader("onepfrac-1k", batch_size=self.args.train_batch_size, shuffle=True, drop_last=True)

``Pretraining(...).train(resume_from_checkpoint=True)`` then continues with the next batch, if the number of ranks and
the batch size are those of the stopped run: a Trainer counts its place in steps of that size.

How it works: a Trainer skips the batches that it has seen with Accelerate's ``skip_first_batches``, which makes a torch
loader of ``.dataset`` and the rest of ``.batch_sampler``. In ``gr.DataLoader`` these give images without augmentation
and their indices. In the loader of this module they give whole batches and the numbers of the batches, so only the
remaining batches are rendered. Leave out ``ignore_data_skip=True``: with it a Trainer begins the epoch again.

This module needs the extra ``transformers``. Written for transformers 5.23 (``Trainer._run_epoch``) and accelerate
1.15.
"""

from collections.abc import Iterator
from typing import Any

from gpurender.loading import data_loader
from gpurender.loading.ranks import Ranks
from gpurender.loading.sampler_plan import SamplerPlan
from gpurender.loading.steps_plan import StepsPlan

__all__ = ["DataLoader"]


class Loader(data_loader.DataLoader):
    """``gr.DataLoader`` without a user's sampler, whose place can be set to a step."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if self._follows is not None:
            raise ValueError(f"{self._follows} must be left out: a Trainer's place is a number of steps")

    def seek(self, step: int) -> None:
        """Set the place to a step of the current epoch, where the next pass begins."""
        assert not isinstance(self._plan, SamplerPlan)
        self._cursor.seek(self._plan.at_step(self._cursor.place, step, self._ranks()), resumes=True)

    def samples(self) -> int:
        """Return the number of samples of a pass on all ranks: of the recipe, or of ``steps_per_epoch`` steps."""
        if not isinstance(self._plan, StepsPlan):
            return len(self.dataset)
        size = self._ranks().world_size
        return sum(self._plan.samples(Ranks(rank, size)) for rank in range(size))


class DataLoader:
    """``gr.DataLoader`` for ``transformers.Trainer``.

    Batches are ``{"pixel_values": images, "labels": targets}``, or what ``collate_fn`` returns for their samples.

    Args:
        arguments, keywords: those of ``gr.DataLoader``, except ``sampler`` and ``batch_sampler``.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    # skip_first_batches passes these to torch's loader, which prefetches nothing and has nothing to collate.
    prefetch_factor = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.loader = Loader(*arguments, **keywords)
        self._dataset = Batches(self.loader)
        self._batch_sampler = Places(self._dataset)

    @property
    def dataset(self) -> "Batches":
        """The batches of the epoch by number; ``len`` counts samples."""
        return self._dataset

    @property
    def batch_sampler(self) -> "Places":
        """The numbers of the batches of an epoch."""
        return self._batch_sampler

    @property
    def sampler(self) -> Any:
        """The sampler of the loader."""
        return self.loader.sampler

    @property
    def batch_size(self) -> int | None:
        """Samples per batch on each rank."""
        return self.loader.batch_size

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last step is left out."""
        return self.loader.drop_last

    def collate_fn(self, batch: Any) -> Any:
        """Return the batch unchanged, as it is collated already."""
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass."""
        self._batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return map(as_keywords, iter(self.loader))  # unlike a generator, map survives an exception


class Places:
    """The numbers of an epoch's batches, each in a list, as a batch sampler gives them."""

    def __init__(self, batches: "Batches") -> None:
        self._batches = batches
        self._told = False  # whether set_epoch was called since the last iteration began

    def set_epoch(self, epoch: int) -> None:
        """Call the loader's ``set_epoch``."""
        self._batches.loader.set_epoch(epoch)
        self._told = True

    def __len__(self) -> int:
        return len(self._batches.loader)

    def __iter__(self) -> Iterator[list[int]]:
        if not self._told:
            raise RuntimeError(
                "set_epoch must be called before every epoch, so that its batches are known; a Trainer of transformers "
                "5.20 or newer calls it"
            )
        self._told = False
        self._batches.leave()
        return ([place] for place in range(len(self)))


class Batches:
    """The batches of the loader's epoch as items; consecutive requests are rendered in one pass."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.leave()

    def leave(self) -> None:
        """Leave the current pass, if any."""
        self._pass: Iterator[Any] = iter(())
        self._next = -1  # number of the batch that the pass gives next

    def __len__(self) -> int:
        return self.loader.samples()

    def __getitems__(self, places: list[int]) -> Any:
        """Return one batch; ``places`` is a list of its number."""
        [place] = places
        if place != self._next:
            self._seek(place)
        batch = next(self._pass)
        self._next = place + 1
        return as_keywords(batch)

    def _seek(self, place: int) -> None:
        self.loader.seek(place)
        self._pass = iter(self.loader)


def as_keywords(batch: Any) -> Any:
    """Return images and targets by the argument names of transformers' vision models; other batches unchanged."""
    if not isinstance(batch, tuple):
        return batch
    images, targets = batch
    return {"pixel_values": images, "labels": targets}
