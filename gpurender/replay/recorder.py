"""Recorder: notes the loss of every batch, and keeps the places of the batches at which it jumped."""

import json
import math
from collections import deque
from statistics import median
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from gpurender.util import checks, keywords

FORMAT = 1
KEY = "gpurender_record"  # of the JSON object, with the version
WINDOW = 100  # losses that say what is usual
LEAST = 10  # losses before anything is called a spike
PENDING = 50  # losses on a GPU that are read together, so that the host waits once for all of them
NORMAL = 1.4826  # standard deviations per median deviation of a normal distribution
FLAT = 1e-6  # of the median: least deviation, where all losses are equal
MOST_KEPT = 10_000


class Places(Protocol):
    """What a recorder asks of a loader: a ``gr.DataLoader``."""

    mixup_enabled: Any

    def check_numbered(self) -> None: ...
    def describe(self) -> dict[str, Any]: ...
    def last_state_dict(self) -> dict[str, Any] | None: ...


class Spike(NamedTuple):
    """A batch at which the loss jumped.

    Attributes:
        step: number of the batch among those noted, from 0.
        loss: its loss; it may be infinite or no number.
        height: distance from the median of the losses before it, in their standard deviations; infinite for a loss that
            is not finite.
        state: place before the batch, as ``loader.state_dict()`` gives places.
        mixes: whether the policy could mix samples (``loader.mixup_enabled``).
    """

    step: int
    loss: float
    height: float
    state: dict[str, Any]
    mixes: bool


@keywords.checked
class Recorder:
    """Keeps which batches a loss jumped at, as a few numbers each, for ``gpurender replay``.

    >>> recorder = gr.replay.Recorder(loader)
    >>> for images, targets in loader:
    ...     loss = train_step(images, targets)
    ...     recorder.note(loss)
    >>> Path("spikes.json").write_text(recorder.to_json())  # gpurender replay spikes.json -o spikes.png

    In Lightning, :class:`gpurender.interop.lightning.NoteLosses` does this. Each rank has a recorder of its own.

    A loss is a spike if it is not finite, or lies more than ``above`` standard deviations over the median of the up to
    100 finite losses before it; the deviation is estimated by the median of the absolute deviations. The first 10
    losses are never spikes, unless they are not finite. A tensor's value is read together with those of the next 50
    batches, so that a GPU is waited for once in 50 steps.

    Args:
        loader: the ``gr.DataLoader`` whose batches are noted, without a user's sampler.
        most: number of spikes that are kept, the highest, 1 to 10,000.
        above: 0 to 1e6.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    def __init__(self, loader: Places, *, most: int = 64, above: float = 6.0) -> None:
        if not all(hasattr(loader, name) for name in ("check_numbered", "describe", "last_state_dict")):
            raise TypeError(f"loader must be a gr.DataLoader, got {checks.shown(loader)}")
        loader.check_numbered()
        self._loader = loader
        self._most = checks.integer("most", most, 1, MOST_KEPT)
        self._above = checks.real("above", above, 0.0, 1e6)
        self._step = 0
        self._usual: deque[float] = deque(maxlen=WINDOW)
        self._pending: list[tuple[int, Any, dict[str, Any], bool]] = []
        self._kept: list[Spike] = []

    def note(self, loss: float | torch.Tensor) -> None:
        """Note the loss of the batch that the loader handed out last.

        Args:
            loss: a number, or a tensor of one; its graph is not kept.

        Raises:
            TypeError: this is no number.
            ValueError: the loader has handed out no batch.
        """
        if isinstance(loss, torch.Tensor):
            if loss.numel() != 1 or loss.is_complex():
                raise TypeError(f"loss must be one number, got {loss.dtype} {list(loss.shape)}")
            loss = loss.detach().reshape(())
        elif isinstance(loss, bool) or not isinstance(loss, (int, float, np.integer, np.floating)):
            raise TypeError(f"loss must be one number, got {checks.shown(loss)}")
        state = self._loader.last_state_dict()
        if state is None:
            raise ValueError("loss must be that of a batch, and the loader has handed out none")
        self._pending.append((self._step, loss, state, bool(self._loader.mixup_enabled)))
        self._step += 1
        if len(self._pending) >= PENDING or not isinstance(loss, torch.Tensor):
            self._read()

    @property
    def spikes(self) -> list[Spike]:
        """The spikes so far, in the order of their steps."""
        self._read()
        return sorted(self._kept, key=lambda spike: spike.step)

    def to_json(self) -> str:
        """Return the loader's description and the spikes as JSON text, which ``gpurender replay`` takes."""
        spikes = [
            {**spike._asdict(), "loss": _text(spike.loss), "height": _text(spike.height)} for spike in self.spikes
        ]
        record = {KEY: FORMAT, "loader": self._loader.describe(), "steps": self._step, "spikes": spikes}
        return json.dumps(record, allow_nan=False)

    def load_json(self, text: str | bytes) -> None:
        """Go on from the text of :meth:`to_json`, of a recorder of a loader that gives the same batches.

        The losses that say what is usual are not in the text: the next 10 losses are no spikes, unless not finite.

        Raises:
            TypeError, ValueError: this is no such text, or that of another loader's recorder.
        """
        record = read_record(text)
        ours = self._loader.describe()
        for name, own in ours.items():  # the text describes one loader, by which the batches are found again
            if record["loader"].get(name) != own:
                raise ValueError(
                    f"text is of another loader's recorder: its {name} is {checks.shown(record['loader'].get(name))}, "
                    f"this loader's is {checks.shown(own)}"
                )
        self._kept, self._step = list(record["spikes"]), record["steps"]
        self._pending.clear()
        self._usual.clear()

    def _read(self) -> None:
        """Read the pending losses, at once, and keep the spikes among them."""
        pending, self._pending = self._pending, []
        for (step, _, state, mixes), loss in zip(pending, _values([loss for _, loss, _, _ in pending]), strict=True):
            height = self._height(loss)
            if height > self._above:
                self._keep(Spike(step, loss, height, state, mixes))
            if math.isfinite(loss):
                self._usual.append(loss)

    def _height(self, loss: float) -> float:
        """Return how far a loss lies above those before it, in standard deviations."""
        if not math.isfinite(loss):
            return math.inf
        if len(self._usual) < LEAST:
            return 0.0
        middle = median(self._usual)
        deviation = NORMAL * median(abs(each - middle) for each in self._usual)
        return (loss - middle) / max(deviation, FLAT * abs(middle), 1e-30)

    def _keep(self, spike: Spike) -> None:
        """Keep a spike, in place of the lowest one if there are too many; of equal ones the first are kept."""
        self._kept.append(spike)
        if len(self._kept) > self._most:
            self._kept.remove(min(reversed(self._kept), key=lambda each: each.height))


def read_record(text: str | bytes) -> dict[str, Any]:
    """Return the record of a JSON text: ``loader``, ``steps``, and ``spikes`` as :class:`Spike`.

    Raises:
        TypeError: this is no text.
        ValueError: it is not that of a recorder.
    """
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"text must be that of Recorder.to_json(), got {type(text).__name__}")
    try:
        record = json.loads(text)
        if record[KEY] != FORMAT:
            raise ValueError(f"version {record[KEY]!r}, this gpurender reads {FORMAT}")
        spikes = [
            Spike(
                checks.integer("step", each["step"], 0, 2**63 - 1), float(each["loss"]), float(each["height"]),
                dict(each["state"]), checks.boolean("mixes", each["mixes"]),
            )
            for each in record["spikes"]
        ]  # fmt: skip
        steps = checks.integer("steps", record["steps"], 0, 2**63 - 1)
        return {"loader": dict(record["loader"]), "steps": steps, "spikes": spikes}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"text must be that of Recorder.to_json(): {reason}") from None


def _values(losses: list[Any]) -> list[float]:
    """Return losses, numbers and tensors, as numbers; tensors of one device are read together."""
    tensors = [loss for loss in losses if isinstance(loss, torch.Tensor)]
    read = iter(torch.stack([loss.double() for loss in tensors]).tolist() if tensors else ())
    return [next(read) if isinstance(loss, torch.Tensor) else float(loss) for loss in losses]


def _text(value: float) -> float | str:
    """Return a number, or the text of one that JSON has no number for."""
    return value if math.isfinite(value) else str(value)
