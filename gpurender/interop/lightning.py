"""Lightning: a callback that gives the loss of every batch to a recorder of loss spikes.

A ``Trainer`` takes a ``gr.DataLoader`` as it is (``docs/stacks.md``). What this module adds::

    from gpurender.interop.lightning import NoteLosses

    loader = gr.DataLoader("onepfrac-1k", batch_size=256, shuffle=True)
    recorder = gr.replay.Recorder(loader)
    trainer = lightning.Trainer(callbacks=[NoteLosses(recorder)])
    trainer.fit(module, loader)
    file = f"spikes-{trainer.global_rank}.json"  # every rank has its own batches, and so a record of its own
    Path(file).write_text(recorder.to_json())  # gpurender replay spikes-0.json -o spikes.png

This module needs the extra ``lightning``. Written for Lightning 2.6 (``loops/training_epoch_loop.py``,
``loops/optimization/automatic.py``).
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from gpurender.util import checks, keywords

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise ImportError(
        f"gpurender.interop.lightning needs lightning, pip install 'gpurender[lightning]' ({error})"
    ) from error

__all__ = ["NoteLosses"]

RECORD, EARLIER = "record", "earlier"
log = logging.getLogger("gpurender")


class Notes(Protocol):
    """What is asked of a recorder: a ``gr.replay.Recorder``."""

    def note(self, loss: Any) -> None: ...
    def to_json(self) -> str: ...
    def load_json(self, text: str) -> None: ...


@keywords.checked
class NoteLosses(Callback):
    """Gives the loss of every training batch of a ``Trainer`` to a :class:`gpurender.replay.Recorder`.

    The loss is what ``training_step`` returns, alone or as ``"loss"`` of a dictionary; a step that returns ``None`` is
    not noted. Lightning's checkpoints hold the record, which is rank 0's. With ``ckpt_path`` the recorder goes on from
    it, if it is of a loader of the same batches and the same rank. Else, as after a resume with other ranks, a new
    record begins, with a warning in the log, and the old one is kept in ``earlier``, in later checkpoints, too.

    Args:
        recorder: a ``gr.replay.Recorder`` of the training loader.

    Attributes:
        earlier: JSON texts of the records of other batches or ranks, oldest first; ``gpurender replay`` takes each.

    Raises:
        TypeError: ``recorder`` is something else.
    """

    def __init__(self, recorder: Notes) -> None:
        if not all(hasattr(recorder, name) for name in ("note", "to_json", "load_json")):
            raise TypeError(f"recorder must be a gr.replay.Recorder, got {checks.shown(recorder)}")
        self._recorder = recorder
        self.earlier: list[str] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss, which Lightning has divided by the number of batches that it accumulates.

        The batch is the last that the loader has handed out: of a loader with a length Lightning fetches none ahead.
        """
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._recorder.note(loss * trainer.accumulate_grad_batches)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {RECORD: self._recorder.to_json(), EARLIER: list(self.earlier)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        text, self.earlier = state_dict[RECORD], list(state_dict[EARLIER])
        try:
            self._recorder.load_json(text)
        except ValueError as error:  # of another loader or rank: the training itself may go on
            self.earlier.append(text)
            log.warning("gpurender: a new record of losses begins, the checkpoint's is kept as it was: %s", error)
