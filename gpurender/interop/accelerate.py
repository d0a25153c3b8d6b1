"""Hugging Face Accelerate: a loader that reports the end of an epoch and is part of Accelerate's checkpoints.

``accelerator.prepare`` returns a ``gr.DataLoader`` unchanged, and training works; but only Accelerate's own loaders
report where an epoch ends. So with ``gradient_accumulation_steps`` the windows of ``accumulate`` continue across the
ends of epochs, and the last window of the training has no optimiser step; ``gather_for_metrics`` does not trim;
``save_state`` leaves out the loader's place. The loader of this module does what Accelerate's own loaders do::

    from gpurender.interop.accelerate import DataLoader

    accelerator = Accelerator(gradient_accumulation_steps=2)
    loader = DataLoader(accelerator, "onepfrac-1k", batch_size=256, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

After ``accelerator.load_state`` the next pass over the loader is the rest of the epoch. Leave out
``skip_first_batches``: it makes a torch loader of ``.dataset``, images without augmentation, and is refused with an
error that says so.

This module needs the extra ``accelerate``. Written for accelerate 1.15 (``accelerate/data_loader.py``,
``accelerate/state.py``).
"""

from collections.abc import Iterator
from typing import Any

from gpurender.loading import data_loader
from gpurender.loading.cursor import Place
from gpurender.loading.iterator import EpochIterator
from gpurender.loading.plan import OrderedPlan
from gpurender.loading.sampler_plan import SamplerPlan
from gpurender.loading.steps_plan import StepsPlan
from gpurender.util import checks

try:
    from accelerate import Accelerator
    from accelerate.data_loader import DataLoaderStateMixin
    from accelerate.state import GradientState
except ImportError as error:
    raise ImportError(
        f"gpurender.interop.accelerate needs accelerate, pip install 'gpurender[accelerate]' ({error})"
    ) from error

__all__ = ["DataLoader"]


class DataLoader(data_loader.DataLoader, DataLoaderStateMixin):
    """``gr.DataLoader`` for Accelerate.

    The loader is registered for checkpointing: ``accelerator.save_state`` and ``load_state`` include its place. Several
    loaders are identified by the order in which they are made.

    Attributes:
        end_of_dataloader: whether the batch handed out is the last one of the pass.
        remainder: number of samples of an incomplete last step on all ranks together, 0 if no step is incomplete; -1:
            not known, because a user's sampler decides it.

    Args:
        accelerator: the loader renders on its device, unless ``device`` is given.
        arguments, keywords: those of ``gr.DataLoader``, the recipe first.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(self, accelerator: Accelerator, *arguments: Any, **keywords: Any) -> None:
        if not isinstance(accelerator, Accelerator):
            raise TypeError(f"accelerator must be an accelerate.Accelerator, got {checks.shown(accelerator)}")
        super().__init__(*arguments, **{"device": accelerator.device, **keywords})
        epochs = self._plan.epochs if isinstance(self._plan, StepsPlan) else self._plan  # any epoch's end may be uneven
        size = self._ranks().world_size
        ragged = epochs.ragged(Place(), self._ranks()) if isinstance(epochs, OrderedPlan) else -1
        if ragged > 0 and ragged % size:
            raise ValueError(
                f"drop_last must be True: the last step has {ragged} samples, which {size} ranks cannot share evenly, "
                "as gather_for_metrics needs it"
            )
        accelerator.register_for_checkpointing(self)

    @property
    def gradient_state(self) -> GradientState:
        """Accelerate's gradient state, one per process."""
        return GradientState()

    def __iter__(self) -> Iterator[Any]:
        return _Pass(self, self._epoch_iterator())

    def begin_pass(self) -> None:
        """Make this loader Accelerate's active one, for a pass that begins at the cursor."""
        remainder = self._ragged(self._cursor.start(self._plan.restart))
        self.begin()
        self.remainder = remainder

    def _ragged(self, place: Place) -> int:
        """Return the size of the incomplete last step of a pass that begins at a place; 0: none, -1: not known."""
        return -1 if isinstance(self._plan, SamplerPlan) else self._plan.ragged(place, self._ranks())


class _Pass(Iterator[Any]):
    """A pass, during which its loader is Accelerate's active one."""

    def __init__(self, loader: DataLoader, batches: EpochIterator) -> None:
        self._loader, self._batches = loader, batches
        self._under_way = False

    def __next__(self) -> Any:
        loader = self._loader
        if not self._under_way:
            loader.begin_pass()
            self._under_way = True
        try:
            batch = next(self._batches)
        except StopIteration:
            self._leave()
            raise
        loader.end_of_dataloader = self._batches.ended
        return batch

    @property
    def ended(self) -> bool:
        """Whether the batch handed out is the last one."""
        return self._batches.ended

    def _leave(self) -> None:
        if self._under_way:
            self._under_way = False
            self._loader.end()

    def __del__(self) -> None:
        self._leave()
