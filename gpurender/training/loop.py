"""The loop of every training here: steps, reports, checkpoints; after a kill it goes on as if nothing had been.

What a step does is a function of the weights, the optimiser's state, the batch and the step's number: the generators of
torch are seeded anew for each step, at the address (seed, step, rank). So the state of a training is the weights, the
optimiser's, the scaler's and the averaged weights, and the place of its feed. All of it is in one file, ``state.pt``,
replaced at once; ``checkpoint.safetensors``, which others read, is written after it.
"""

import dataclasses
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import nn

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.training import checkpoint, engine, models, optimisation
from gpurender.training.journal import Journal, Waiting
from gpurender.training.stopping import Interrupted, Request
from gpurender.util import checks
from gpurender.util.atomic_files import replacing

Batch = tuple[torch.Tensor, torch.Tensor]
STATE = "state.pt"
CHECKPOINT = "checkpoint.safetensors"
STOP_EVERY = 10  # steps between two agreements of several processes to stop


class DivergedError(RuntimeError):
    """The loss is not finite; the attribute ``what`` says since which step."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}: {advice}")
        self.what = what


class StateError(ValueError):
    """The state in a folder is damaged, or that of another training."""


class Feed(Protocol):
    """Batches without end, from a place that can be saved."""

    def batches(self) -> Iterator[Batch]:
        """Yield images, floating ``[B, 3, H, W]``, and targets, from the place on."""

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch, as JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the place."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides a training beside its model and its data.

    Attributes:
        steps: optimiser steps.
        batch_size: images per optimiser step, of all processes together.
        accumulate: batches in which a process computes its part of a step.
        optimizer, lr, weight_decay: of :func:`optimisation.optimizer`.
        schedule, warmup, min_lr: of :class:`optimisation.Schedule`.
        clip: largest norm of the gradients; ``None``: no limit.
        ema: decay of the averaged weights, which the checkpoint then holds; ``None``: none.
        amp: ``"no"``, ``"bf16"`` or ``"fp16"``.
        seed: of the weights and of the model's randomness.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: int = 0
    min_lr: float = 0.0
    clip: float | None = None
    ema: float | None = None
    amp: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        whole: dict[str, int] = {"steps": 2**40, "batch_size": 2**31 - 1, "accumulate": 2**20}
        for name, high in whole.items():
            self._set(name, checks.integer(name, getattr(self, name), 1, high))
        self._set("warmup", checks.integer("warmup", self.warmup, 0, self.steps))
        self._set("seed", checks.integer("seed", self.seed, 0, checks.UINT64_MAX))
        for name, most in {"lr": 1e6, "min_lr": 1e6, "weight_decay": 1e6, "clip": 1e6, "ema": 1.0}.items():
            value = getattr(self, name)
            if value is not None or name not in ("clip", "ema"):
                self._set(name, checks.real(name, value, 0.0, most))
        checks.choice("optimizer", self.optimizer, optimisation.OPTIMIZERS)
        checks.choice("schedule", self.schedule, optimisation.SCHEDULES)
        checks.choice("amp", self.amp, engine.PRECISIONS)

    def _set(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)  # Python's own number: NumPy's would be no JSON in the checkpoint


def per_batch(settings: Settings, processes: int) -> int:
    """Return the images of one batch of one process.

    Raises:
        ValueError: the images of a step cannot be shared evenly.
    """
    parts = processes * settings.accumulate
    if settings.batch_size % parts:
        raise ValueError(
            f"batch_size must be a multiple of {parts} ({processes} processes x accumulate {settings.accumulate}), "
            f"got {settings.batch_size}"
        )
    return settings.batch_size // parts


class Training:
    """A training that is under way.

    Args:
        accelerator: of :func:`engine.accelerator`.
        model: on the CPU; it is moved.
        feed: its batches.
        loss: of the model's outputs and the targets.
        settings: of the training.
        folder: where ``state.pt``, ``checkpoint.safetensors`` and ``metrics.jsonl`` are.
        about: what a checkpoint says of itself, given the feed's state; JSON values.
        compiled: whether ``torch.compile`` compiles the model.
    """

    def __init__(
        self, accelerator: Any, model: nn.Module, feed: Feed, loss: Callable[..., torch.Tensor], settings: Settings,
        folder: Path, about: Callable[[dict[str, Any]], dict[str, Any]], compiled: bool = False,
    ) -> None:  # fmt: skip
        self.accelerator, self.feed, self.loss, self.settings = accelerator, feed, loss, settings
        self.folder, self.about = folder, about
        self.step = 0
        self.network = models.arranged(model.to(accelerator.device))
        optimizer = optimisation.optimizer(model, settings.optimizer, settings.lr, settings.weight_decay)
        self.schedule = optimisation.scheduler(
            optimizer,
            optimisation.Schedule(settings.schedule, settings.steps, settings.warmup, settings.lr, settings.min_lr),
        )
        self.ema = _averaged(model, settings.ema)
        trained = torch.compile(model) if compiled else model
        self.model, self.optimizer = accelerator.prepare(trained, optimizer)

    # ------------------------------------------------------------------------------------------------------- running

    def run(self, journal: Journal, log_every: int, save_every: int) -> None:
        """Take the steps that are left; report, save, and stop when a signal asks for it.

        Args:
            journal: takes the reports.
            log_every, save_every: steps from one report, and from one checkpoint, to the next.

        Raises:
            Interrupted: a signal came; the checkpoint is written.
        """
        waiting = Waiting(self.accelerator.device)
        batches = waiting.batches(self.feed.batches())
        with Request().watched() as request:
            for _ in self.course(batches, waiting, request, journal, log_every, save_every):
                pass
        if request.number and self.accelerator.num_processes == 1:  # it came in the last step: the caller is to end
            signal.raise_signal(request.number)

    def course(
        self, batches: Iterator[Batch], waiting: Waiting, request: Request, journal: Journal, log_every: int,
        save_every: int,
    ) -> Iterator[None]:  # fmt: skip
        """Take the steps that are left, one whenever the iterator is asked; see :meth:`run`.

        Args:
            batches: those of the feed, from its place on.
            waiting: the clock of the reports.
            request: whether a signal has come.
            journal, log_every, save_every: of :meth:`run`.
        """
        images = per_batch(self.settings, self.accelerator.num_processes)
        losses: list[torch.Tensor] = []
        with engine.explained(images, self.accelerator.device):
            self.model.train()
            if self.step < self.settings.steps:
                self._settle(images)
            while self.step < self.settings.steps:
                losses.append(self._take_step(batches))
                self.step += 1
                journal.advance()
                last = self.step == self.settings.steps
                if last or self.step % log_every == 0:
                    journal.report(self._line(losses, waiting))
                    losses.clear()
                stop = self._agreed(request)
                if last or stop or self.step % save_every == 0:
                    self.save()
                if stop and not last:
                    raise Interrupted(stop, f"step {self.step} of {self.settings.steps} is saved in {self.folder}")
                yield

    def _settle(self, images: int) -> None:
        """Let DistributedDataParallel form its buckets of gradients by a pass that changes nothing.

        It forms other buckets after its first pass, and the sum over three or more processes depends on the buckets. So
        a training that goes on would end with other bits than an undisturbed one (four processes on two nodes of which
        one was killed: weights apart by 7e-6).

        Args:
            images: of a batch of this process.
        """
        if not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return
        kept = {name: value.clone() for name, value in self.network.named_buffers()}
        side = self.about({})["model"]["image_size"]
        with self.accelerator.autocast():
            blank = torch.zeros(images, 3, side, side, dtype=torch.float32, device=self.accelerator.device)
            found = self.model(blank)
            sum(one.sum() for one in (found if isinstance(found, (tuple, list)) else (found,))).backward()
        self.network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in self.network.named_buffers():
                value.copy_(kept[name])

    def _take_step(self, batches: Iterator[Batch]) -> torch.Tensor:
        """Take one optimiser step; return its mean loss without reading the value."""
        self.schedule.step_update(self.step)
        _seed(self.settings.seed, self.step, self.accelerator.process_index)
        total = torch.zeros((), dtype=torch.float32, device=self.accelerator.device)
        for _ in range(self.settings.accumulate):
            images, targets = next(batches)
            with self.accelerator.accumulate(self.model):
                with self.accelerator.autocast():
                    loss = self.loss(self.model(images), targets)
                self.accelerator.backward(loss)
                if self.settings.clip is not None and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += loss.detach() / self.settings.accumulate
        if self.ema is not None:
            self.ema.update(self.network, step=self.step)
        return total

    def _line(self, losses: list[torch.Tensor], waiting: Waiting) -> dict[str, Any]:
        mean = self.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
        if not math.isfinite(mean):
            raise DivergedError(
                f"the loss is {mean} at step {self.step}",
                "a smaller --lr or a longer warm-up may help; the last "
                f"checkpoint in {self.folder} is of an earlier step",
            )
        passed, share = waiting.restart()
        return {
            "step": self.step,
            "images": self.step * self.settings.batch_size,
            "loss": mean,
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": len(losses) * self.settings.batch_size / passed,
            "data_wait": share,
        }

    def _agreed(self, request: Request) -> int:
        """Return the signal that asks for the end on any process, at the same step on all; 0: none."""
        if self.accelerator.num_processes == 1:
            return request.number
        if self.step % STOP_EVERY:
            return 0
        number = torch.tensor(request.number, dtype=torch.int64, device=self.accelerator.device)
        return int(self.accelerator.gather(number[None]).max())

    # -------------------------------------------------------------------------------------------------------- saving

    def save(self) -> None:
        """Write the state and the checkpoint, on the process of rank 0."""
        state = self.feed.state_dict()
        if not self.accelerator.is_main_process:
            return
        kept = {
            "step": self.step,
            "identity": self.identity(),
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "feed": state,
        }
        with replacing(self.folder / STATE, durable=True) as temporary, open(temporary, "wb") as file:
            _write(kept, file)
        self._save_checkpoint(state)

    def _save_checkpoint(self, state: dict[str, Any]) -> None:
        weights = self.network.state_dict() if self.ema is None else self.ema.module.state_dict()
        checkpoint.save(self.folder / CHECKPOINT, weights, self._description(state))

    def _description(self, state: dict[str, Any]) -> dict[str, Any]:
        done = {"step": self.step, "images": self.step * self.settings.batch_size}
        settings = dataclasses.asdict(self.settings)
        return self.about(state) | {"settings": settings, **done, "versions": checkpoint.versions()}

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a training to go on: model, data and settings, as JSON values."""
        about = self.about({})
        settings = dataclasses.asdict(self.settings)
        del settings["accumulate"]  # a machine with less memory may go on
        if self.settings.schedule == "constant":  # no step depends on how many there are
            del settings["steps"]
        return {"kind": about["kind"], **about["model"], **about["data"], **settings}

    def resume(self) -> bool:
        """Go on from the state in the folder, if there is one; return whether there is.

        Raises:
            StateError: it is the state of another training, or damaged.
        """
        path = self.folder / STATE
        if not path.exists():
            return False
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
            identity = kept["identity"]
        except Exception as error:  # whatever a damaged archive raises
            reason = type(error).__name__  # torch's text has many lines, and says how to run what the file holds
            raise StateError(f"output: {path} cannot be read ({reason}); remove it to begin again") from None
        for name, value in self.identity().items():
            if not _agree(identity.get(name), value):
                raise StateError(
                    f"output: {str(self.folder)!r} holds a training with {name}={checks.shown(identity.get(name))}, "
                    f"and this one has {checks.shown(value)}: give the same arguments, or another folder"
                )
        if kept["step"] > self.settings.steps:  # of a constant rate, whose number of steps is no part of the identity
            raise StateError(
                f"output: {str(self.folder)!r} holds a training of {kept['step']} steps, and this one has "
                f"{self.settings.steps}: give as many or more, or another folder"
            )
        self.network.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(kept["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(kept["scaler"])
        self.feed.load_state_dict(kept["feed"])
        self.step = kept["step"]
        if self.accelerator.is_main_process and not self._is_saved():  # a kill may have come between the two files
            self._save_checkpoint(kept["feed"])
        return True

    def _is_saved(self) -> bool:
        """Return whether the checkpoint in the folder is that of the present step."""
        try:
            return checkpoint.describe(self.folder / CHECKPOINT)["step"] == self.step
        except ValueError:  # there is none, or it is not whole
            return False


def _agree(kept: Any, value: Any) -> bool:
    """Return whether an entry of an identity is the same; an earlier version may have kept less of it."""
    if isinstance(kept, dict) and isinstance(value, dict):
        return all(_agree(kept[name], value.get(name)) for name in kept)
    return kept == value


def _write(values: dict[str, Any], file: BinaryIO) -> None:
    """Write values as torch does.

    Raises:
        OSError: the disk is full or broken. torch itself covers that by ``RuntimeError("unexpected pos 64 vs 0")``.
    """
    try:
        torch.save(values, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _seed(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for a step of a process, at its address."""
    drawn = words(seed, Stream.STEP, np.array([(rank << 40) + step], np.uint64))[0]
    torch.manual_seed((int(drawn[0]) << 32) + int(drawn[1]))


def _averaged(model: nn.Module, decay: float | None) -> Any:
    """Return timm's exponential moving average of the weights, or ``None``."""
    if decay is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=decay)
