"""Measures: what the checkpoint of a config is worth on the tasks of a study.

Frozen features: accuracy of ridge regression and of the nearest neighbours, after the last block and after the middle
one, and scores that predict transfer. Fine-tuning: accuracy of the model with a new head, trained on few labels.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    "log_every": 50,
}
FINETUNE_BATCH = 50


def measure(
    path: Path, tasks: Mapping[str, Task], ladder: Ladder, rung: int, work: Path, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Return the figures of a checkpoint by task and name; accuracies in [0, 1].

    ``score`` is the accuracy that the rung is judged by, on the scale of :func:`gpurender.tasks.normalised`: that of
    ridge regression on the last block, or the mean of the fine-tunings.

    Args:
        path: the checkpoint.
        tasks: by name.
        ladder, rung: how to measure.
        work: a folder for fine-tunings; they go on from there after a kill.
        device: that computes.
    """
    found = {}
    for name, task in tasks.items():
        figures = frozen(path, task, device)
        tuned = []
        for seed in range(ladder.finetunings(rung)):
            own = dataclasses.replace(task, seed=(task.seed + seed) % 2**64)
            tuned.append(_finetuned(path, own, ladder.finetune_steps, work / name / str(seed), device))
        if tuned:
            figures["finetuned"] = tuned
        accuracy = float(np.mean(tuned)) if tuned else figures["ridge"]
        found[name] = figures | {"accuracy": accuracy, "score": normalised(accuracy, figures["classes"])}
    shutil.rmtree(work, ignore_errors=True)
    return found


def frozen(path: Path, task: Task, device: torch.device) -> dict[str, Any]:
    """Return what the frozen features of a checkpoint are worth on a task."""
    about = checkpoint.describe(path)["model"]
    side = about["image_size"]
    train, test = task.samples("train"), task.samples("test")
    transform = test_transform(side, about["mean"], about["std"])
    model = checkpoint.load(path)
    blocks = depth(model, side)
    layers = sorted({(blocks + 1) // 2, blocks})
    with engine.explained(BATCH, device):
        model = model.to(device)
        known, asked = (features(model, part, transform, layers, BATCH, 0, device) for part in (train, test))
        logits = torch.from_numpy(outputs(model, train, transform, BATCH, 0, device))
    found: dict[str, Any] = {"classes": len(train.classes)}
    for layer, suffix in zip(layers, ("_middle", "")[-len(layers) :], strict=True):
        ridge, near = _accuracies(known[layer], train, asked[layer], test)
        found |= {f"ridge{suffix}": ridge, f"knn{suffix}": near}
    probabilities = torch.softmax(logits.double(), 1).numpy()
    last = known[layers[-1]].astype(np.float64)
    last /= np.sqrt(np.mean(last**2)) + 1e-12  # TransRate depends on the scale, which says nothing
    return found | transferability.scores(last, probabilities, train.labels)


def _finetuned(path: Path, task: Task, steps: int, output: Path, device: torch.device) -> float:
    images = len(task.samples("train"))
    size = min(FINETUNE_BATCH, images)
    return finetune(
        path, task, output, epochs=-(-steps * size // images), batch_size=size, device=device, seed=task.seed,
        **FINETUNING,
    )["accuracy"]  # fmt: skip


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
