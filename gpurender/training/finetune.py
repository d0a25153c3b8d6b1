"""Fine-tuning: a checkpoint's model, with a new head, on a task of real images."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpurender.recipes.base import MAX_IMAGE_SIZE
from gpurender.runtime import devices
from gpurender.tasks import Task, normalised
from gpurender.training import checkpoint, engine, models
from gpurender.training.evaluation import accuracy
from gpurender.training.examples import Examples, test_transform, train_transform
from gpurender.training.loop import CHECKPOINT, STATE, Settings, Training, per_batch
from gpurender.training.running import folder_of, go
from gpurender.util import checks, keywords

__all__ = ["finetune"]

# Of the released fine-tuning scripts of 1p-frac and VisualAtom.
LR, LR_BATCH = 0.01, 512
WEIGHT_DECAY = 1e-4
WARMUP_EPOCHS = 10
BATCH_SIZE = 768
EPOCHS = 100  # the papers take 1,000 on CIFAR
SMOOTHING = 0.1


@keywords.checked
def finetune(
    source: str | os.PathLike[str],
    data: str | os.PathLike[str] | Task,
    output: str | os.PathLike[str],
    *,
    labels_per_class: int | None = None,
    validation: float = 0.0,
    from_scratch: bool = False,
    epochs: int = EPOCHS,
    steps: int | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    accumulate: int = 1,
    optimizer: str = "sgd",
    lr: float | None = None,
    weight_decay: float | None = None,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    drop_path: float = 0.0,
    ema: float | None = None,
    clip: float | None = None,
    warm_up: str | None = None,
    minutes: float = 10.0,
    amp: str | None = None,
    compile: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    workers: int = 0,
    log_every: int = 10,
    save_every: int = 500,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train a checkpoint's model on a task, measure it on the task's test images, and return the figures.

    Settings that are not given are those of the released fine-tuning scripts of 1p-frac and VisualAtom: SGD with
    momentum 0.9, learning rate 0.01 x batch / 512, weight decay 1e-4, a warm-up of 10 epochs (at most a tenth of the
    training), cosine, DeiT's augmentation by timm, mixup, CutMix and label smoothing 0.1. After a kill the same call
    goes on from the last saved step, as :func:`gpurender.training.pretrain` does.

    Args:
        source: a checkpoint of ``pretrain`` or ``finetune``.
        data: a folder with ``train/`` and ``val/``, another source of :class:`gpurender.tasks.Task`, or a task.
        output: the folder of the results; it is made.
        labels_per_class, validation: of the task; a validation share is measured in place of the test images.
        from_scratch: take the checkpoint's model with random weights, for comparison.
        epochs: passes over the training images.
        steps: length in optimiser steps, in place of ``epochs``.
        image_size: side of the images in pixels; ``None``: that of the checkpoint.
        batch_size: images per optimiser step, of all processes together; ``None``: 768, or the training images if they
            are fewer.
        accumulate, ema, clip, amp, compile, device, log_every, save_every, tensorboard: as in ``pretrain``.
        optimizer, lr, weight_decay: in place of the papers'.
        mixup, cutmix: parameters of the beta distributions of timm's mixing; 0: none.
        drop_path: stochastic depth.
        warm_up, minutes: a recipe on which the model is first trained for so long (:func:`gpurender.training.warm_up`).
        seed: of the head, the choice of labels, order, augmentation and the model's randomness.
        workers: processes that read and transform images.

    Returns:
        ``accuracy`` in [0, 1] on the test images, ``normalised_accuracy``, ``classes``, ``train_images``,
        ``test_images``, ``steps``, ``checkpoint`` and ``task``.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed, or the image that cannot be read.
        RuntimeError: a package is missing, or the memory of the device is too small.
    """
    path = checks.path("checkpoint", source)
    about = checkpoint.describe(path)
    task = _task(data, labels_per_class, validation, seed)
    train, test = task.samples("train"), task.samples("validation" if task.validation else "test")
    made = about["model"]
    side = checks.integer("image_size", made["image_size"] if image_size is None else image_size, 1, MAX_IMAGE_SIZE)
    target = devices.resolve(device)
    size = min(BATCH_SIZE, len(train)) if batch_size is None else checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    mixing = _mixing(mixup, cutmix, len(train.classes))
    if mixing is not None and batch_size is None:
        size = max(2, size - size % 2)
    settings = _settings(
        len(train), epochs, size, optimizer, lr, weight_decay, steps, accumulate=accumulate, ema=ema, clip=clip,
        amp=engine.precision(amp, target), seed=seed,
    )  # fmt: skip
    checks.integer("log_every", log_every, 1, 2**31 - 1)
    checks.integer("save_every", save_every, 1, 2**31 - 1)
    accelerator = engine.accelerator(target, settings.amp, accumulate)
    each = per_batch(settings, accelerator.num_processes)
    if mixing is not None and each % 2:
        raise ValueError(f"batch_size must be even per process and batch for mixup and cutmix, got {each}")
    network = _network(path, about, len(train.classes), side, drop_path, seed, from_scratch)
    folder = folder_of(output)
    if warm_up is not None and not (folder / STATE).exists():
        from gpurender.training.warm_up import warm_up as trained

        trained(network, warm_up, minutes, image_size=side, device=accelerator.device, seed=seed)
    mean, std = (made.get(name, [0.5] * 3) for name in ("mean", "std"))
    feed = Examples(
        train, train_transform(side, mean, std), mixing, each, accelerator.process_index, accelerator.num_processes,
        seed, checks.integer("workers", workers, 0, 1024), accelerator.device,
    )  # fmt: skip
    began = "random weights" if from_scratch else checkpoint.origin(path, about)
    described = _description(about, task, side, train.classes, began, (float(mixup), float(cutmix)), warm_up, mean, std)
    training = Training(accelerator, network, feed, nn.CrossEntropyLoss(label_smoothing=0.0 if mixing else SMOOTHING),
                        settings, folder, described, compile)  # fmt: skip
    go(training, log_every, save_every, tensorboard)
    judged = network if training.ema is None else training.ema.module
    with engine.explained(each, accelerator.device):
        found = accuracy(judged, test, test_transform(side, mean, std), each, workers, accelerator.device)
    return {
        "accuracy": found,
        "normalised_accuracy": normalised(found, len(test.classes)),
        "classes": len(test.classes),
        "train_images": len(train),
        "test_images": len(test),
        "steps": settings.steps,
        "checkpoint": str(folder / CHECKPOINT),
        "task": json.loads(task.to_json()),
    }


def _task(data: Any, labels_per_class: int | None, validation: float, seed: int) -> Task:
    if isinstance(data, Task):
        if labels_per_class is not None or validation:
            raise ValueError("labels_per_class and validation must be left out when data is a Task, which has its own")
        return data
    return Task(data, labels_per_class=labels_per_class, validation=validation, seed=seed)


def _settings(
    images: int, epochs: int, size: int, optimizer: str, lr: float | None, weight_decay: float | None,
    steps: int | None = None, **others: Any,
) -> Settings:  # fmt: skip
    checks.integer("epochs", epochs, 1, 2**31 - 1)
    count = max(1, -(-epochs * images // size)) if steps is None else checks.integer("steps", steps, 1, 2**40)
    return Settings(
        steps=count, batch_size=size, optimizer=optimizer, lr=LR * size / LR_BATCH if lr is None else lr,
        weight_decay=WEIGHT_DECAY if weight_decay is None else weight_decay,
        warmup=min(WARMUP_EPOCHS * images // size, count // 10), **others,
    )  # fmt: skip


def _mixing(mixup: float, cutmix: float, classes: int) -> Any:
    """Return timm's mixing of batches, or ``None``."""
    checks.real("mixup", mixup, 0.0, 1e3)
    checks.real("cutmix", cutmix, 0.0, 1e3)
    if not mixup and not cutmix:
        return None
    models.require_timm()
    from timm.data import Mixup

    return Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=SMOOTHING, num_classes=classes)


def _network(
    path: Path, about: dict[str, Any], classes: int, side: int, drop_path: float, seed: int, from_scratch: bool
) -> nn.Module:
    checks.boolean("from_scratch", from_scratch)
    checks.real("drop_path", drop_path, 0.0, 1.0)
    if from_scratch:
        return models.create(about["model"]["name"], classes, side, drop_path, seed)
    return checkpoint.restored(path, about, classes, side, drop_path, seed)


def _description(
    about: dict[str, Any], task: Task, side: int, classes: tuple[str, ...], began: Any,
    mixing: tuple[float, float], warm_up: str | None, mean: Any, std: Any,
) -> Callable[[dict[str, Any]], dict[str, Any]]:  # fmt: skip
    """Return what a checkpoint of the fine-tuning says of itself, as a function of the feed's state."""
    made = {
        "name": about["model"]["name"], "classes": len(classes), "image_size": side, "mean": list(mean),
        "std": list(std), "class_names": list(classes),
    }  # fmt: skip
    data = {
        "task": json.loads(task.to_json()),
        "mixup": mixing[0],
        "cutmix": mixing[1],
        "warm_up": warm_up,
        "began_with": began,
    }

    def described(state: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "finetune", "model": made, "data": data, "stream": state}

    return described
