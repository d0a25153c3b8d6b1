"""Pre-training: a timm model on a recipe's images, with a paper's settings."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpurender.augment.adapter import PolicyLike
from gpurender.loading.data_loader import DataLoader
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime import devices
from gpurender.training import checkpoint, engine, models, policies
from gpurender.training.loop import CHECKPOINT, Batch, Settings, Training, per_batch
from gpurender.training.loss import loss_of
from gpurender.training.presets import Preset
from gpurender.training.presets import preset as find_preset
from gpurender.training.running import folder_of, go
from gpurender.util import checks, keywords

__all__ = ["Stream", "pretrain"]


@keywords.checked
def pretrain(
    recipe: RecipeLike,
    model: str,
    output: str | os.PathLike[str],
    *,
    preset: str | None = None,
    initial_checkpoint: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    images: int | None = None,
    image_size: int = 224,
    batch_size: int | None = None,
    accumulate: int = 1,
    lr: float | None = None,
    weight_decay: float | None = None,
    schedule: str | None = None,
    warmup: int | None = None,
    augment: PolicyLike | str | None = None,
    fresh: bool = False,
    ema: float | None = None,
    clip: float | None = None,
    amp: str | None = None,
    compile: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    log_every: int = 10,
    save_every: int = 500,
    tensorboard: bool = False,
) -> Path:
    """Train a timm model on the images of a recipe; return the path of its checkpoint.

    The folder gets ``checkpoint.safetensors``, ``metrics.jsonl`` and ``state.pt``. After a kill the same call goes on
    from the last saved step, and ends with the same weights as a training that was not disturbed (on a CPU bit for
    bit). SIGTERM and SIGINT save first. Under torchrun all processes train one model; ``batch_size`` is that of all of
    them together, so the number of processes does not change the training.

    Args:
        recipe: any argument of ``gr.recipe``.
        model: timm's name of the model.
        output: the folder; it is made.
        preset: a paper's settings, a name of :data:`gpurender.training.presets.PRESETS`; ``None``: those of the
            recipe's paper, else DeiT's.
        initial_checkpoint: a checkpoint of the same model to begin with, such as an expert of a data server, in place
            of random weights; the head is new.
        steps, images: the length in optimiser steps or in images; without either, the paper's. The warm-up is at most a
            tenth of it.
        image_size: side of the images in pixels.
        batch_size: images per optimiser step; ``None``: the paper's. Where the paper's rule says so, the learning rate
            is scaled with it.
        accumulate: batches in which each process computes its part of a step.
        lr, weight_decay, augment: in place of the preset's; ``augment`` is a policy of one view, or its name; a
            policy of your own needs a ``repr`` that is the same in every process, as a dataclass has.
        fresh: new instances of the classes in every epoch (``gr.DataLoader``).
        schedule: ``"cosine"``, ``"steps"`` or ``"constant"``, in place of the preset's; a training of constant rate can
            be made longer later, by the same call with another length (and the same ``warmup``).
        warmup: images in which the rate rises linearly, in place of the preset's; at most all of them.
        ema: decay of averaged weights, which the checkpoint then holds.
        clip: largest norm of the gradients.
        amp: ``"no"``, ``"bf16"`` or ``"fp16"``; ``None``: bfloat16 on a GPU, none on a CPU.
        compile: whether ``torch.compile`` compiles the model.
        device: that renders and trains; ``None``: the GPU if there is one.
        seed: of weights, order, augmentation and the model's randomness.
        log_every, save_every: steps from one report, and from one checkpoint, to the next.
        tensorboard: also write TensorBoard's events.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; also if the folder holds another
            training.
        RuntimeError: a package is missing, or the memory of the device is too small.
    """
    checks.integer("log_every", log_every, 1, 2**31 - 1)
    checks.integer("save_every", save_every, 1, 2**31 - 1)
    training = prepared(
        recipe, model, output, preset=preset, initial_checkpoint=initial_checkpoint, steps=steps, images=images,
        image_size=image_size, batch_size=batch_size, accumulate=accumulate, lr=lr, weight_decay=weight_decay,
        schedule=schedule, warmup=warmup, augment=augment, fresh=fresh, ema=ema, clip=clip, amp=amp, compile=compile,
        device=device, seed=seed,
    )  # fmt: skip
    go(training, log_every, save_every, tensorboard)
    return checks.path("output", output) / CHECKPOINT


def prepared(
    recipe: RecipeLike, model: str, output: str | os.PathLike[str], *, preset: str | None = None,
    initial_checkpoint: str | os.PathLike[str] | None = None, steps: int | None = None, images: int | None = None,
    image_size: int = 224, batch_size: int | None = None, accumulate: int = 1, lr: float | None = None,
    weight_decay: float | None = None, schedule: str | None = None, warmup: int | None = None,
    augment: PolicyLike | str | None = None, fresh: bool = False, ema: float | None = None, clip: float | None = None,
    amp: str | None = None, compile: bool = False, device: str | torch.device | None = None, seed: int = 0,
) -> Training:  # fmt: skip
    """Return the training that :func:`pretrain` runs, before its first step; the arguments are the same."""
    chosen = as_recipe(recipe)
    models.check_model(model)
    name, paper = find_preset(preset, chosen)
    target = devices.resolve(device)
    settings = _settings(
        paper, steps, images, batch_size, warmup, schedule=schedule, lr=lr, weight_decay=weight_decay,
        accumulate=accumulate, ema=ema, clip=clip, amp=engine.precision(amp, target), seed=seed,
    )  # fmt: skip
    policy = policies.one_view(paper.augment if augment is None else augment)
    augmentation = policies.identity(policy)
    accelerator = engine.accelerator(target, settings.amp, accumulate)
    size = per_batch(settings, accelerator.num_processes)
    stream = DataLoader(
        chosen, batch_size=size, shuffle=True, drop_last=size * accelerator.num_processes <= len(chosen),
        image_size=image_size, augment=policy, device=accelerator.device, seed=seed, fresh=fresh,
        rank=accelerator.process_index, world_size=accelerator.num_processes,
    )  # fmt: skip
    side = int(image_size)
    network, origin = _begun(model, initial_checkpoint, chosen.classes, side, paper.drop_path, settings.seed)
    folder = folder_of(output)

    def about(state: dict[str, Any]) -> dict[str, Any]:
        data = {
            "recipe": json.loads(chosen.to_json()),
            "fingerprint": chosen.fingerprint,
            "augment": augmentation,
            "fresh": fresh,
            "loader_seed": settings.seed,
            "began_with": origin,
        }
        made = {
            "name": model, "classes": chosen.classes, "image_size": side, "mean": list(policy.mean),
            "std": list(policy.std),
        }  # fmt: skip
        processes = accelerator.num_processes  # which mix the samples of their own batches only
        return {
            "kind": "pretrain", "preset": name, "model": made, "data": data, "stream": state, "processes": processes,
        }  # fmt: skip

    return Training(
        accelerator, network, Stream(stream), loss_of(chosen), settings, folder, about, compile
    )  # fmt: skip


def _begun(
    model: str, path: str | os.PathLike[str] | None, classes: int, side: int, drop_path: float, seed: int
) -> tuple[nn.Module, dict[str, Any] | None]:
    """Return the model before the first step, and what it began with; ``None`` for random weights."""
    if path is None:
        return models.create(model, classes, side, drop_path, seed), None
    place = checks.path("initial_checkpoint", path)
    before = checkpoint.describe(place, "initial_checkpoint")
    if before["model"]["name"] != model:
        raise ValueError(f"model must be that of initial_checkpoint, {before['model']['name']!r}, got {model!r}")
    network = checkpoint.restored(place, before, classes, side, drop_path, seed)
    return network.train(), checkpoint.origin(place, before)


def _settings(
    paper: Preset, steps: int | None, images: int | None, batch_size: int | None, warmup: int | None, **others: Any
) -> Settings:
    """Return the settings of a preset with the given values in place of its own."""
    if steps is not None and images is not None:
        raise ValueError(f"steps must be left out when images is given, got {steps!r} and {images!r}")
    size = checks.integer("batch_size", paper.batch_size if batch_size is None else batch_size, 1, 2**31 - 1)
    length = paper.images if images is None else checks.integer("images", images, 1, 2**50)
    count = max(1, length // size) if steps is None else checks.integer("steps", steps, 1, 2**40)
    scale = size / paper.batch_size if paper.lr_scales else 1.0
    if warmup is None:
        rising = min(paper.warmup // size, count // 10)
    else:
        rising = min(checks.integer("warmup", warmup, 0, 2**50) // size, count)
    given = {name: value for name, value in others.items() if value is not None}
    return Settings(**{
        "steps": count, "batch_size": size, "optimizer": paper.optimizer, "lr": paper.lr * scale,
        "weight_decay": paper.weight_decay, "schedule": paper.schedule,
        "warmup": rising, "min_lr": paper.min_lr, **given,
    })  # fmt: skip


class Stream:
    """The feed of a loader of recipes: its epochs without end."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def batches(self) -> Iterator[Batch]:
        """Yield the batches from the loader's place on."""
        while True:
            yield from self._loader

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's place."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the loader's place."""
        self._loader.load_state_dict(state)
