"""What a training tells: one JSON line per report in ``metrics.jsonl``, TensorBoard's events, a progress bar."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gpurender.util.atomic_files import replacing
from gpurender.util.progress import progress

METRICS = "metrics.jsonl"


class Journal:
    """The reports of the process of rank 0; on other ranks nothing is written.

    After a kill, the lines beyond the step at which the training goes on are removed, so each step is reported once.

    Args:
        folder: where ``metrics.jsonl`` and, with ``tensorboard``, the folder ``tensorboard`` are.
        step, steps: where the training goes on, and its length in optimiser steps.
        writes: whether this process writes.
        tensorboard: whether TensorBoard's events are written.
        shown: whether a process that writes shows its bar.

    Raises:
        RuntimeError: TensorBoard is wanted and not installed.
    """

    def __init__(
        self, folder: Path, step: int, steps: int, writes: bool, tensorboard: bool, shown: bool = True
    ) -> None:  # fmt: skip
        self._path = folder / METRICS
        self._writes = writes
        self._board = _board(folder, step) if tensorboard and writes else None
        if writes:
            _cut(self._path, step)
        self._bar = progress(total=steps, initial=step, desc="train", unit="step", hidden=not (writes and shown))

    def advance(self) -> None:
        """Note one more step."""
        self._bar.update()

    def report(self, values: dict[str, Any]) -> None:
        """Write one line: ``step``, ``images``, ``loss`` and others."""
        if not self._writes:
            return
        with open(self._path, "ab") as file:
            file.write(json.dumps(values).encode() + b"\n")
        shown = {name: values[name] for name in ("loss", "images_per_second")}
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()}, refresh=False)
        if self._board is not None:
            for name, value in values.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, values["step"])

    def close(self) -> None:
        """End the bar and flush what is open."""
        self._bar.close()
        if self._board is not None:
            self._board.close()


class Waiting:
    """Which share of the time the training waits for its batches.

    On a CPU this is the time in which a batch is rendered. On a GPU it is the time that the training's CUDA stream
    stands still before a batch, by events; the events are read when a report is due, so no step waits for them.
    What others do in between, where several trainings share a process, may be left out.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._waits: list[tuple[Any, Any]] = []
        self._absences: list[tuple[Any, Any]] = []
        self.begin = time.perf_counter()

    def batches(self, feed: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of a feed, measured."""
        while True:
            first = self.mark()
            try:
                batch = next(feed)
            except StopIteration:
                return
            self.waited(first, self.mark())
            yield batch

    def waited(self, first: Any, last: Any) -> None:
        """Count the time between two marks as spent waiting."""
        self._waits.append((first, last))

    def was_away(self, first: Any, last: Any) -> None:
        """Leave out the time between two marks."""
        self._absences.append((first, last))

    def mark(self) -> Any:
        """Return a moment of this training's clock."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def restart(self) -> tuple[float, float]:
        """Return seconds since the last call, and the share of them spent waiting, 0 to 1."""
        if self._cuda and self._waits:
            torch.cuda.synchronize()
        waited, absent = self._sum(self._waits), self._sum(self._absences)
        now = time.perf_counter()
        passed = max(0.0, now - self.begin - absent)
        self.begin = now
        return passed, min(1.0, waited / passed) if passed else 0.0

    def _sum(self, pairs: list[tuple[Any, Any]]) -> float:
        """Return the seconds between the marks of all pairs, and forget them."""
        found = sum(first.elapsed_time(last) / 1e3 if self._cuda else last - first for first, last in pairs)
        pairs.clear()
        return found


def _cut(path: Path, step: int) -> None:
    """Remove the lines of steps after ``step``, and a line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    with replacing(path) as temporary:
        Path(temporary).write_bytes(b"".join(line + b"\n" for line in kept))


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RuntimeError(f"--tensorboard needs tensorboard: pip install tensorboard ({error})") from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
