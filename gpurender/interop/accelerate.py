"""Hugging Face Accelerate: a loader that tells it where an epoch ends, and that it saves and restores.

``accelerator.prepare`` returns ``gr.DataLoader`` as it is, and training works; but only loaders of Accelerate's own
tell it where an epoch ends. So with ``gradient_accumulation_steps`` the windows of ``accumulate`` run on across the
ends of epochs, and the last one of the training is never stepped; ``gather_for_metrics`` does not trim; ``save_state``
leaves the place out. This one does what Accelerate's own loaders do::

    from gpurender.interop.accelerate import DataLoader

    accelerator = Accelerator(gradient_accumulation_steps=2)
    loader = DataLoader(accelerator, "onepfrac-1k", batch_size=256, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

After ``accelerator.load_state`` the next pass over it is the rest of the epoch. Leave out ``skip_first_batches``, which
makes a torch loader of ``.dataset``, pictures without augmentation, and is refused with a line that says so.

It needs the extra ``accelerate``. Written for accelerate 1.15 (``accelerate/data_loader.py``, ``accelerate/state.py``).
"""

from collections.abc import Iterator
from typing import Any

from gpurender.loading import data_loader
from gpurender.loading.iterator import EpochIterator
from gpurender.loading.plan import OrderedPlan
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

    The loader is registered for checkpointing: ``accelerator.save_state`` and ``load_state`` include its place. Loaders
    are told apart by the order in which they are made.

    Attributes:
        end_of_dataloader: whether the batch handed out is the last one of the pass.
        remainder: samples that all ranks together are given in an incomplete last step, 0 if there is none; -1: not
            known, because a sampler decides it.

    Args:
        accelerator: draws on its device, unless ``device`` says otherwise.
        arguments, keywords: those of ``gr.DataLoader``, the recipe first.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(self, accelerator: Accelerator, *arguments: Any, **keywords: Any) -> None:
        if not isinstance(accelerator, Accelerator):
            raise TypeError(f"accelerator must be an accelerate.Accelerator, got {checks.shown(accelerator)}")
        super().__init__(*arguments, **{"device": accelerator.device, **keywords})
        size, ragged = self._ranks().world_size, self._ragged(0)
        if ragged > 0 and ragged % size:
            raise ValueError(
                f"drop_last must be True: the last step has {ragged} samples, which {size} ranks cannot share evenly, "
                "as gather_for_metrics needs it"
            )
        accelerator.register_for_checkpointing(self)

    @property
    def gradient_state(self) -> GradientState:
        """Accelerate's, one a process."""
        return GradientState()

    def __iter__(self) -> Iterator[Any]:
        return _Pass(self, self._epoch_iterator())

    def begin_pass(self) -> None:
        """Be the loader that Accelerate asks, for a pass that begins where the cursor is."""
        remainder = self._ragged(self._cursor.start().position)
        self.begin()
        self.remainder = remainder

    def _ragged(self, position: int) -> int:
        """Return the samples in the incomplete last step of a pass that begins at a position; -1: not known."""
        return self._plan.ragged(position, self._ranks()) if isinstance(self._plan, OrderedPlan) else -1


class _Pass(Iterator[Any]):
    """A pass, during which its loader is the one that Accelerate asks."""

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

    def _leave(self) -> None:
        if self._under_way:
            self._under_way = False
            self._loader.end()

    def __del__(self) -> None:
        self._leave()
