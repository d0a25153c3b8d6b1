"""Measures: what the checkpoint of a config is worth on the tasks of a study.

Frozen features: accuracy of ridge regression and of the nearest neighbours, after the last block and after the middle
one, and scores that predict transfer. Fine-tuning: accuracy of the model with a new head, trained on few labels.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gpurender.search import transferability
from gpurender.search.ladder import Ladder
from gpurender.tasks import Samples, Task, normalised
from gpurender.training import checkpoint, engine
from gpurender.training.evaluation import depth, features, outputs
from gpurender.training.examples import test_transform
from gpurender.training.finetune import finetune
from gpurender.training.probe import neighbours

BATCH = 64  # images of a forward pass
PENALTIES = tuple(10.0**k for k in range(-3, 6))  # of ridge regression on standardised features, times the images
FINETUNING: Mapping[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.05,
    "mixup": 0.0,
    "cutmix": 0.0,
    "amp": "bf16",
    "log_every": 50,
}
FINETUNE_BATCH = 50


class Judged(NamedTuple):
    """A task and its images: those with labels, and those that configs are judged by."""

    task: Task
    train: Samples
    judged: Samples


def judged(task: Task) -> Judged:
    """Return a task with its images; those it holds out of the training, if any, judge configs, else its test images.

    Raises:
        ValueError: it cannot be read.
    """
    return Judged(task, task.samples("train"), task.samples("validation" if task.validation else "test"))


def measure(
    path: Path, tasks: Mapping[str, Judged], ladder: Ladder, rung: int, work: Path, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Return the figures of a checkpoint by task and name; accuracies in [0, 1].

    ``score`` is the accuracy that the rung is judged by, on the scale of :func:`gpurender.tasks.normalised`: that of
    ridge regression on the last block, or the mean of the fine-tunings.

    Args:
        path: the checkpoint.
        tasks: by name.
        ladder, rung: how to measure.
        work: a folder for fine-tunings.
        device: that computes.
    """
    found = {}
    for name, one in tasks.items():
        figures = frozen(path, one, device)
        tuned = [
            _finetuned(path, one.task, ladder.finetune_steps, seed, work / name / str(seed), device)
            for seed in range(ladder.finetunings(rung))
        ]
        if tuned:
            figures["finetuned"] = tuned
        accuracy = float(np.mean(tuned)) if tuned else figures["ridge"]
        found[name] = figures | {"accuracy": accuracy, "score": normalised(accuracy, figures["classes"])}
    return found


def frozen(path: Path, one: Judged, device: torch.device) -> dict[str, Any]:
    """Return what the frozen features of a checkpoint are worth on a task."""
    about = checkpoint.describe(path)["model"]
    side = about["image_size"]
    transform = test_transform(side, about["mean"], about["std"])
    model = checkpoint.load(path)
    blocks = depth(model, side)
    layers = sorted({(blocks + 1) // 2, blocks})
    parts = (one.train, one.judged)
    with engine.explained(BATCH, device):
        model = model.to(device)
        known, asked = (features(model, part, transform, layers, BATCH, 0, device) for part in parts)
        logits = torch.from_numpy(outputs(model, one.train, transform, BATCH, 0, device))
    found: dict[str, Any] = {"classes": len(one.train.classes)}
    if not all(np.isfinite(some[layer]).all() for some in (known, asked) for layer in layers):
        raise np.linalg.LinAlgError("features that are not finite")
    for layer, suffix in zip(layers, ("_middle", "")[-len(layers) :], strict=True):
        ridge, near = _accuracies(known[layer], one.train, asked[layer], one.judged)
        found |= {f"ridge{suffix}": ridge, f"knn{suffix}": near}
    probabilities = torch.softmax(logits.double(), 1).numpy()
    last = known[layers[-1]].astype(np.float64)
    last /= np.sqrt(np.mean(last**2)) + 1e-12  # TransRate depends on the scale, which says nothing
    return found | transferability.scores(last, probabilities, one.train.labels)


def _finetuned(path: Path, task: Task, steps: int, seed: int, output: Path, device: torch.device) -> float:
    """Fine-tune on a task, with other labels for each seed; those held out stay the same ones."""
    own = task if task.validation else dataclasses.replace(task, seed=(task.seed + seed) % 2**64)
    size = min(FINETUNE_BATCH, len(own.samples("train")))
    return finetune(path, own, output, steps=steps, batch_size=size, device=device, seed=seed, **FINETUNING)["accuracy"]


def _accuracies(known: np.ndarray, train: Samples, asked: np.ndarray, test: Samples) -> tuple[float, float]:
    """Return the accuracies of ridge regression and of neighbours; known, asked  # [N, C], [M, C] float32."""
    mean, spread = known.mean(0), known.std(0) + 1e-6
    x, y = ((part - mean) / spread for part in (known, asked))
    near = neighbours(torch.from_numpy(x), torch.from_numpy(train.labels), torch.from_numpy(y)).numpy()
    linear = ridge(x.astype(np.float64), train.labels, y.astype(np.float64))
    return float((linear == test.labels).mean()), float((near == test.labels).mean())


def ridge(x: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the labels of ``asked`` by ridge regression on one-hot targets, int64 ``[M]``.

    The penalty is the one of :data:`PENALTIES` with the least squared error of leave-one-out predictions: with h the
    diagonal of the hat matrix, a residual r becomes r / (1 - h) (Golub, Heath, Wahba, Technometrics 1979).

    Args:
        x: standardised features, float64 ``[N, C]``.
        labels: int64 ``[N]``.
        asked: float64 ``[M, C]``.
    """
    targets = np.eye(int(labels.max()) + 1)[labels]  # [N, K]
    mean = targets.mean(0)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ (targets - mean)  # [R, K]
    best, weights = np.inf, None
    for penalty in PENALTIES:
        shrink = s**2 / (s**2 + penalty)  # [R]
        fitted = u @ (shrink[:, None] * projected)
        left = 1.0 - 1.0 / len(x) - (u**2 @ shrink)  # the mean of the targets is fitted, too
        error = float(np.mean(((targets - mean - fitted) / np.maximum(left, 1e-12)[:, None]) ** 2))
        if error < best:
            best, weights = error, (vt.T * (s / (s**2 + penalty))) @ projected
    return (asked @ weights + mean).argmax(1)
