"""Where the numbers of a replay come from: a checkpoint, a loader's state, or the record of a recorder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpurender.augment.adapter import PolicyLike, as_policy
from gpurender.augment.text import policy_of
from gpurender.loading.data_loader import DataLoader
from gpurender.recipes.base import recipe as as_recipe
from gpurender.replay.recorder import KEY, Spike, read_record
from gpurender.training import checkpoint
from gpurender.training.loop import CHECKPOINT
from gpurender.util import checks
from gpurender.util.texts import read_text

MAX_RANKS = 4096  # whose loaders are made


class Visit(NamedTuple):
    """A batch to look at: ``loader.batch_at(number)`` in the loader's present pass.

    Attributes:
        step: number of the step.
        part: which of the step's batches of a rank, from 0: an optimiser step may accumulate several.
        loss: what a recorder noted; ``None``: not known.
        loader, number: where the batch is.
    """

    step: int
    part: int
    loss: float | None
    loader: DataLoader[Any]
    number: int


class Source(NamedTuple):
    """The steps of a training.

    Attributes:
        description: what decides the batches: a loader's ``describe()``, without the rank.
        policy: of the loaders.
        world_size: number of ranks.
        accumulate: batches of a rank in one step.
        seen: number of steps that were taken; ``None``: not known.
        spikes: the batches that a recorder kept, which are the only steps; ``None``: there was no recorder.
        rank: the only rank whose batches are known; ``None``: all are.
    """

    description: Mapping[str, Any]
    policy: PolicyLike[Any]
    world_size: int = 1
    accumulate: int = 1
    seen: int | None = None
    spikes: tuple[Spike, ...] | None = None
    rank: int | None = None

    def loader(self, rank: int, device: str | torch.device) -> DataLoader[Any]:
        """Return the loader of a rank; it keeps no bitmaps, because there may be many of them."""
        keywords = {name: self.description[name] for name in LOADER}
        return DataLoader(
            self.description["recipe"], augment=self.policy, rank=rank, world_size=self.world_size, device=device,
            cache_bytes=0, **keywords,
        )  # fmt: skip

    def visits(self, steps: Sequence[int], device: str | torch.device) -> Iterator[Visit]:
        """Yield the batches of steps, step by step, part by part, rank by rank."""
        if self.spikes is not None:
            yield from self._spikes(steps, device)
            return
        loaders = [self.loader(rank, device) for rank in range(self.world_size)]
        if not len(loaders[0]):
            raise ValueError("drop_last must be False, or batch_size smaller: no epoch of the recipe has a whole step")
        for step in steps:
            for part in range(self.accumulate):
                epoch, number = divmod(step * self.accumulate + part, len(loaders[0]))
                for loader in loaders:
                    loader.set_epoch(epoch)
                    yield Visit(step, part, None, loader, number)

    def _spikes(self, steps: Sequence[int], device: str | torch.device) -> Iterator[Visit]:
        """Yield the batches that a recorder kept."""
        loader = self.loader(self.rank or 0, device)
        known = {spike.step: spike for spike in self.spikes or ()}
        for step in steps:
            loader.load_state_dict(known[step].state)
            loader.mixup_enabled = known[step].mixes
            yield Visit(step, 0, known[step].loss, loader, loader.step)


LOADER = ("batch_size", "image_size", "shuffle", "drop_last", "steps_per_epoch", "seed", "fresh")


def source(state: Any, given: Mapping[str, Any]) -> Source:
    """Return the source of a checkpoint, a loader's state or a record.

    Args:
        state: the path of a ``checkpoint.safetensors`` of ``gpurender pretrain``, of its folder, or of a JSON file; or
            what ``loader.state_dict()`` returned.
        given: ``recipe``, ``batch_size``, ``image_size``, ``augment``, ``drop_last`` and ``world_size``, ``None`` each
            if not given.

    Raises:
        TypeError, ValueError: this is no such state, or the arguments do not fit it.
    """
    if isinstance(state, Mapping):
        return _of_state(state, given)
    path = checks.path("state", state)
    if path.is_dir():
        path = path / CHECKPOINT
    if path.suffix.lower() != ".json":
        return _of_checkpoint(path, given)
    try:
        text = read_text(path)
        data = json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"state must be a checkpoint, its folder or a JSON file, none is at {str(path)!r}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"state {str(path)!r} is no JSON: {error}") from None
    if isinstance(data, dict) and KEY in data:
        return _of_record(text, given)
    return _of_state(data, given)


def _of_checkpoint(path: Path, given: Mapping[str, Any]) -> Source:
    """Return the source of a checkpoint; its own numbers are checked against the place that it holds."""
    about = checkpoint.describe(path)
    if about["kind"] != "pretrain":
        raise ValueError(f"state must be a checkpoint of gpurender pretrain, {str(path)!r} is one of {about['kind']}")
    _refuse(given, ("recipe", "batch_size", "image_size", "drop_last"), "a checkpoint says it")
    data, settings = about["data"], about["settings"]
    ranks = _world_size(given["world_size"], about.get("processes", 1))
    parts = ranks * settings["accumulate"]
    if settings["batch_size"] % parts:
        raise ValueError(
            f"world_size must be a number of ranks that share {settings['batch_size'] // settings['accumulate']} "
            f"images evenly, got {ranks}"
        )
    size, recipe = settings["batch_size"] // parts, data["recipe"]
    policy = policy_of(data["augment"]) if given["augment"] is None else as_policy(given["augment"])
    description = {
        "recipe": recipe, "batch_size": size, "image_size": about["model"]["image_size"], "augment": data["augment"],
        "shuffle": True, "drop_last": True, "steps_per_epoch": None, "seed": data["loader_seed"],
        "fresh": data["fresh"],
    }  # fmt: skip
    found = Source(description, policy, ranks, settings["accumulate"], about["step"])
    length = about["stream"]["length"]
    if size * ranks > length:  # as pretrain has it: an epoch is one incomplete step
        found = found._replace(description=description | {"drop_last": False})
    _check_place(found, about["stream"], str(path))
    return found


def _check_place(found: Source, stream: Mapping[str, Any], path: str) -> None:
    """Refuse a checkpoint whose place is not the one that its number of steps leads to."""
    loader = found.loader(0, "cpu")
    loader.load_state_dict(stream)
    epoch, number = divmod((found.seen or 0) * found.accumulate, len(loader))
    if (loader.epoch, stream["position"]) != (epoch, number * found.description["batch_size"] * found.world_size):
        raise ValueError(
            f"state {path!r} is of a training whose steps had several sizes (--accumulate was changed): the batches of "
            "its steps are not known"
        )


def _of_state(state: Any, given: Mapping[str, Any]) -> Source:
    """Return the source of a loader's state, which needs to be told what the loader was made of."""
    if not isinstance(state, Mapping) or not {"recipe", "seed", "shuffle", "fresh"} <= set(state):
        raise ValueError(
            f"state must be what loader.state_dict() or Recorder.to_json() returned, got {checks.shown(state)}"
        )
    if "mark" in state:
        raise ValueError("state must be of a loader without a user's sampler: only its sampler knows the samples")
    for name in ("recipe", "batch_size"):
        if given[name] is None:
            raise ValueError(f"{name} must be given with a loader's state, which does not hold it")
    chosen = as_recipe(given["recipe"])
    policy = as_policy(given["augment"])
    ranks = _world_size(given["world_size"], 1)
    description = {
        "recipe": json.loads(chosen.to_json()), "batch_size": given["batch_size"],
        "image_size": 224 if given["image_size"] is None else given["image_size"], "augment": repr(policy),
        "shuffle": bool(state["shuffle"]), "drop_last": bool(given["drop_last"]),
        "steps_per_epoch": state.get("steps_per_epoch"), "seed": state["seed"], "fresh": bool(state["fresh"]),
    }  # fmt: skip
    found = Source(description, policy, ranks)
    found.loader(0, "cpu").load_state_dict(state)  # refuses another recipe
    return found


def _of_record(text: str, given: Mapping[str, Any]) -> Source:
    """Return the source of a recorder's text."""
    _refuse(given, ("recipe", "batch_size", "image_size", "drop_last", "world_size"), "a record says it")
    record = read_record(text)
    description = record["loader"]
    if missing := [name for name in (*LOADER, "recipe", "augment", "rank", "world_size") if name not in description]:
        raise ValueError(f"state must be what Recorder.to_json() returned: {missing[0]!r} is missing in its loader")
    policy = policy_of(description["augment"]) if given["augment"] is None else as_policy(given["augment"])
    return Source(
        description, policy, description["world_size"], spikes=tuple(record["spikes"]), rank=description["rank"]
    )


def _world_size(given: Any, default: int) -> int:
    return checks.integer("world_size", default if given is None else given, 1, MAX_RANKS)


def _refuse(given: Mapping[str, Any], names: Sequence[str], why: str) -> None:
    for name in names:
        if given[name]:
            raise ValueError(f"{name} must be left out: {why}, got {checks.shown(given[name])}")
