"""The batches of a replay: images as the model saw them, and what decided each of them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from gpurender.augment.adapter import PolicyLike
from gpurender.recipes.base import Recipe, RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.replay.facts import facts
from gpurender.replay.pictures import Row
from gpurender.replay.recorder import Spike
from gpurender.replay.sources import Source, Visit, source
from gpurender.util import checks, keywords

MOST = 256  # batches of one replay


class SeenBatch(NamedTuple):
    """One batch that one rank saw.

    Attributes:
        step, part, rank: which batch: an optimiser step may accumulate several parts.
        epoch: number of its epoch.
        loss: what a recorder noted; ``None``: not known.
        images, targets: exactly what the loader gave; with several views ``images`` is a list of tensors.
        pictures: the images as bytes, uint8 ``[B, H, W, 3]``, one array a view.
        facts: what decided each image (:func:`gpurender.replay.facts.facts`).
    """

    step: int
    part: int
    rank: int
    epoch: int
    loss: float | None
    images: Any
    targets: torch.Tensor
    pictures: list[np.ndarray]
    facts: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return all but the pixels, as JSON values."""
        return {
            "step": self.step, "part": self.part, "rank": self.rank, "epoch": self.epoch,
            "loss": self.loss if self.loss is None or np.isfinite(self.loss) else str(self.loss), "images": self.facts,
        }  # fmt: skip

    def rows(self, most: int) -> Iterator[Row]:
        """Yield the rows of a sheet: at most so many pictures, one row a view."""
        words = [f"step {self.step}", f"epoch {self.epoch}"]
        words += [f"part {self.part}"] * (self.part > 0) + [f"rank {self.rank}"] * (self.rank > 0)
        words += [] if self.loss is None else [f"loss {self.loss:.4g}"]
        names = [f"#{each['sample']} class {each['class']}" for each in self.facts[:most]]
        for view, pictures in enumerate(self.pictures):
            shown = [*words, f"view {view}"] if len(self.pictures) > 1 else words
            yield Row("  ".join(shown), names, pictures[:most].copy())  # the others need not stay in memory


class Replay(NamedTuple):
    """What is replayed: its source, recipe and steps."""

    source: Source
    recipe: Recipe
    steps: list[int]

    @property
    def total(self) -> int:
        """Number of batches."""
        alone = self.source.spikes is not None
        return len(self.steps) * (1 if alone else self.source.world_size * self.source.accumulate)

    def batches(self, device: str | torch.device) -> Iterator[SeenBatch]:
        """Yield the batches, step by step, rank by rank."""
        for number, visit in enumerate(self.source.visits(self.steps, device)):
            each = self.source.world_size if self.source.spikes is None else 1
            rank = number % each if self.source.rank is None else self.source.rank
            yield _seen(visit, self.recipe, rank, bool(self.source.description["fresh"]))

    def to_json(self, seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return what decided the batches, as JSON values; ``seen``: ``to_json()`` of each batch."""
        return {
            "recipe": self.source.description["recipe"],
            "fingerprint": self.recipe.fingerprint,
            "loader": {name: value for name, value in self.source.description.items() if name not in ("recipe", "rank")}
            | {"augment": repr(self.source.policy), "world_size": self.source.world_size},
            "accumulate": self.source.accumulate,
            "batches": list(seen),
        }


@keywords.checked
def replay(
    state: Any,
    steps: Any = None,
    *,
    recipe: RecipeLike | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    augment: PolicyLike[Any] | str | None = None,
    drop_last: bool = False,
    world_size: int | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[SeenBatch]:
    """Yield the batches that a model saw in some steps, rendered again: on the same device the same bytes.

    Args:
        state: the path of a checkpoint of ``gpurender pretrain``, of its folder, or of a JSON file with a loader's
            state or the text of :meth:`Recorder.to_json`; or what ``loader.state_dict()`` returned.
        steps: numbers of optimiser steps from 0: an integer, a range, a list, or a text such as ``"12000:12004"``,
            without the last. ``None``: all that a recorder kept. With a loader's state a step is one batch of all ranks
            since the first of epoch 0.
        recipe, batch_size, image_size, augment, drop_last: of the loader whose state is given, as for ``gr.DataLoader``
            (the recipe and the batch size must be given). A checkpoint and a record hold them; only ``augment`` must be
            given for a policy of your own.
        world_size: number of ranks of the training, if the state does not hold it; default 1.
        device: that renders; ``None``: the GPU if there is one.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    planned = plan(
        state, steps, recipe=recipe, batch_size=batch_size, image_size=image_size, augment=augment,
        drop_last=drop_last, world_size=world_size,
    )  # fmt: skip
    return planned.batches(device)


def plan(state: Any, steps: Any, **given: Any) -> Replay:
    """Return what is to be replayed, checked; nothing is rendered. The arguments are those of :func:`replay`."""
    found = source(state, given)
    numbers = step_numbers(steps) if found.spikes is None else _spikes(steps, found.spikes)
    if found.seen is not None and numbers[-1] >= found.seen:
        raise ValueError(f"steps must be below {found.seen}, which the checkpoint has seen, got {numbers[-1]}")
    each = found.world_size * found.accumulate if found.spikes is None else 1
    if len(numbers) * each > MOST:
        raise ValueError(f"steps must be of at most {MOST} batches, got {len(numbers)} steps of {each}")
    return Replay(found, as_recipe(found.description["recipe"]), list(numbers))


def step_numbers(steps: Any) -> Sequence[int]:
    """Return the numbers, in ascending order, of an integer, a range, a list or a text such as ``"12000:12004"``.

    Raises:
        TypeError, ValueError: naming the value and what is allowed.
    """
    allowed = "a step or a range FIRST:END, without END, such as 12000:12004"
    if steps is None:
        raise ValueError(f"steps must be given: {allowed}")
    if isinstance(steps, str):
        first, colon, end = steps.partition(":")
        if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (first, end or first)):
            raise ValueError(f"steps must be {allowed}, got {checks.shown(steps)}")
        if colon and not end:
            raise ValueError(f"steps must be {allowed}, got {checks.shown(steps)}")
        steps = range(int(first), int(end) if colon else int(first) + 1)
    if isinstance(steps, range) and steps and steps.step == 1 and steps[0] >= 0:
        return steps  # which may be of any length
    numbers = sorted(checks.integers("steps", steps, 2**62).tolist())
    if not numbers:
        raise ValueError(f"steps must be {allowed}, with at least one step, got {checks.shown(steps)}")
    return numbers


def _spikes(steps: Any, spikes: Sequence[Spike]) -> list[int]:
    """Return the steps to show of those that a recorder kept: those that are named, or all."""
    kept = [spike.step for spike in spikes]
    chosen = kept if steps is None else [step for step in kept if step in step_numbers(steps)]
    if not chosen:
        raise ValueError(f"steps must be some of those that the record holds, {checks.shown(kept)}, got {steps!r}")
    return chosen


def _seen(visit: Visit, recipe: Recipe, rank: int, fresh: bool) -> SeenBatch:
    """Render a batch again."""
    found = visit.loader.parameters_at(visit.number)
    images, targets = visit.loader.batch_at(visit.number)
    views = images if isinstance(images, list) else [images]
    pictures = [as_bytes(view, found.policy.mean, found.policy.std) for view in views]
    return SeenBatch(
        visit.step, visit.part, rank, found.epoch, visit.loss, images, targets, pictures, facts(recipe, found, fresh)
    )


def as_bytes(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return normalised images, ``[N, 3, H, W]``, as uint8 ``[N, H, W, 3]``; noise beyond 0 and 255 is cut off."""
    centre, scale = (torch.tensor(values, dtype=torch.float64, device="cpu").view(1, 3, 1, 1) for values in (mean, std))
    levels = (images.cpu().double() * scale + centre) * 255.0
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
