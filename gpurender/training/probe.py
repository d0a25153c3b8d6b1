"""Probes: what frozen features of a model's blocks are worth on a task, by a linear classifier and by neighbours."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpurender.recipes.base import MAX_IMAGE_SIZE
from gpurender.runtime import devices
from gpurender.tasks import Task, normalised
from gpurender.training import checkpoint, engine
from gpurender.training.evaluation import check_layers, depth, features
from gpurender.training.examples import order, test_transform
from gpurender.util import checks, keywords
from gpurender.util.progress import progress

__all__ = ["probe"]

PENALTIES = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
)  # weights of the squared norm; one is chosen on a fifth of the training images
HELD_OUT = 5
NEIGHBOURS = 20
TEMPERATURE = 0.07  # of the neighbours' votes, as in the evaluation of DINO (Caron et al., 2021)


@keywords.checked
def probe(
    source: str | os.PathLike[str],
    data: str | os.PathLike[str] | Task,
    *,
    layers: Sequence[int] | None = None,
    labels_per_class: int | None = None,
    from_scratch: bool = False,
    image_size: int | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    seed: int = 0,
    workers: int = 0,
) -> dict[str, Any]:
    """Measure frozen features of a checkpoint's blocks on a task, as in figure 3 of the 1p-frac paper.

    The features of a block are means over positions. The linear classifier is multinomial logistic regression on
    standardised features, fitted by L-BFGS; the weight of its penalty is the best one on a fifth of the training
    images, and the classifier is then fitted to all of them. The neighbours are the 20 most similar training images by
    cosine, weighted by ``exp(similarity / 0.07)``.

    Args:
        source: a checkpoint of ``pretrain`` or ``finetune``.
        data: a folder with ``train/`` and ``val/``, another source of :class:`gpurender.tasks.Task`, or a task.
        layers: numbers of blocks, from 1; ``None``: all.
        labels_per_class: of the task.
        from_scratch: take the checkpoint's model with random weights, for comparison.
        image_size: side of the images in pixels; ``None``: that of the checkpoint.
        batch_size: images per forward pass.
        device: that computes the features; ``None``: the GPU if there is one.
        seed: of the choice of labels and of the held-out fifth.
        workers: processes that read and transform images.

    Returns:
        ``accuracy``, in [0, 1], and ``normalised_accuracy`` of the linear classifier on the last of the layers;
        ``layers``: for each layer ``layer``, ``linear``, ``knn``, ``penalty`` and ``features``; ``classes``,
        ``train_images``, ``test_images`` and ``task``.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed, or the image that cannot be read.
    """
    path = checks.path("checkpoint", source)
    about = checkpoint.describe(path)
    made = about["model"]
    side = checks.integer("image_size", made["image_size"] if image_size is None else image_size, 1, MAX_IMAGE_SIZE)
    size = checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    task = data if isinstance(data, Task) else Task(data, labels_per_class=labels_per_class, seed=seed)
    train, test = task.samples("train"), task.samples("test")
    target = devices.resolve(device)
    if from_scratch:
        from gpurender.training import models

        model = models.create(made["name"], made["classes"], side, seed=seed)
    else:
        model = checkpoint.load(path, image_size=side)
    chosen = check_layers(layers, depth(model, side))
    transform = test_transform(side, made.get("mean", [0.5] * 3), made.get("std", [0.5] * 3))
    with engine.explained(size, target):
        model = model.to(target)
        known, asked = (features(model, part, transform, chosen, size, workers, target) for part in (train, test))
    rows = []
    with progress(total=len(chosen), desc="probe", unit="layer") as bar:
        for layer in chosen:
            rows.append({"layer": layer, **_scores(known[layer], train.labels, asked[layer], test.labels, seed)})
            bar.update()
    return {
        "accuracy": rows[-1]["linear"],
        "normalised_accuracy": normalised(rows[-1]["linear"], len(train.classes)),
        "layers": rows,
        "classes": len(train.classes),
        "train_images": len(train),
        "test_images": len(test),
        "task": json.loads(task.to_json()),
    }


def _scores(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the accuracies of one layer's features: known, asked float32 ``[N, C]``; labels, truth int64 ``[N]``."""
    mean, spread = known.mean(0), known.std(0) + 1e-6
    x, y = (torch.from_numpy((part - mean) / spread) for part in (known, asked))
    t, u = torch.from_numpy(labels), torch.from_numpy(truth)
    shuffled = order(len(t), seed, 0)
    parts = shuffled[::HELD_OUT], np.delete(shuffled, np.s_[::HELD_OUT])
    held, rest = (torch.from_numpy(part) for part in parts)
    penalty = PENALTIES[0]
    if len(rest):
        trials = {w: _right(linear(x[rest], t[rest], w), x[held], t[held]) for w in PENALTIES}
        penalty = max(PENALTIES, key=lambda w: trials[w])
    found = _right(linear(x, t, penalty), y, u)
    return {
        "linear": found,
        "knn": float((neighbours(x, t, y) == u).float().mean()),
        "penalty": penalty,
        "features": known.shape[1],
    }


def linear(
    x: torch.Tensor, labels: torch.Tensor, penalty: float, iterations: int = 200
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights ``[C, K]`` and biases ``[K]`` that minimise cross-entropy + penalty / 2 x (squared norm) / C.

    Args:
        x: features, float32 ``[N, C]``.
        labels: int64 ``[N]``.
    """
    classes = int(labels.max()) + 1
    weights = torch.zeros(x.shape[1], classes, dtype=x.dtype, device=x.device, requires_grad=True)
    biases = torch.zeros(classes, dtype=x.dtype, device=x.device, requires_grad=True)
    solver = torch.optim.LBFGS([weights, biases], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ weights + biases, labels)
        value = value + penalty / 2 * weights.square().sum() / x.shape[1]
        value.backward()
        return value

    solver.step(loss)
    return weights.detach(), biases.detach()


def _right(classifier: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, labels: torch.Tensor) -> float:
    weights, biases = classifier
    return float(((x @ weights + biases).argmax(1) == labels).float().mean())


def neighbours(x: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor, block: int = 1024) -> torch.Tensor:
    """Return the label of each asked image by its nearest known images, int64 ``[M]``.

    Args:
        x, labels: known features, float32 ``[N, C]``, and their labels, int64 ``[N]``.
        asked: features, float32 ``[M, C]``.
    """
    known = torch.nn.functional.normalize(x, dim=1)
    classes, count = int(labels.max()) + 1, min(NEIGHBOURS, len(x))
    found = []
    for part in torch.nn.functional.normalize(asked, dim=1).split(block):
        similarity, nearest = (part @ known.T).topk(count, 1)
        votes = torch.zeros(len(part), classes, dtype=part.dtype, device=part.device)
        votes.scatter_add_(1, labels[nearest], (similarity / TEMPERATURE).exp())
        found.append(votes.argmax(1))
    return torch.cat(found)
