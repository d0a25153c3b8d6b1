"""Experts: models trained on one source each, and what they make of other images."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gpurender.augment.normalise import HALVES
from gpurender.recipes.base import MAX_IMAGE_SIZE
from gpurender.search.measures import ridge
from gpurender.server.rotation import TURNS, Turned, rotation_accuracy
from gpurender.server.sources import Source
from gpurender.tasks import Samples
from gpurender.tasks.sources import Set
from gpurender.training import checkpoint, engine, models
from gpurender.training.evaluation import depth, features
from gpurender.training.examples import order, test_transform
from gpurender.training.loop import CHECKPOINT, Feed, Settings, Training
from gpurender.training.running import folder_of, go
from gpurender.util import checks

TASKS = ("rotation", "classify")
BATCH = 256  # images of a forward pass
WEIGHT_DECAY = 0.05
WARMUP = 20  # one step in so many
FOLDS = 5  # of a cross-validation
JUDGED = 1000  # images at least that a cross-validation judges, up to ROUNDS times each
ROUNDS = 4
FEWEST = 2  # classes that a linear head tells apart
LOG_EVERY, SAVE_EVERY = 10, 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schooling:
    """How experts are trained: all of them alike, so that their scores can be compared.

    Attributes:
        task: ``"rotation"``: by which quarter turns an image was rotated; ``"classify"``: its class.
        model: timm's name of the model.
        image_size: side of the images in pixels.
        images: length of the training, in images that the model sees (a rotation is an image).
        batch_size: images per step; for rotations a multiple of 4.
        lr: learning rate of AdamW after the warm-up.
        seed: unsigned 64-bit key of weights, order and augmentation.
    """

    task: str = "rotation"
    model: str = "resnet18"
    image_size: int = 64
    images: int = 200_000
    batch_size: int = 256
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        checks.choice("task", self.task, TASKS)
        models.check_model(self.model)
        for name, most in (("image_size", MAX_IMAGE_SIZE), ("images", 2**50), ("batch_size", 2**31 - 1)):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name), 1, most))
        object.__setattr__(self, "lr", checks.real("lr", self.lr, 0.0, 1e6))
        object.__setattr__(self, "seed", checks.integer("seed", self.seed, 0, checks.UINT64_MAX))
        if self.task == "rotation" and self.batch_size % TURNS:
            raise ValueError(f"batch_size must be a multiple of {TURNS} for rotations, got {self.batch_size}")


def trained(source: Source, how: Schooling, about: dict[str, Any], folder: Path, device: torch.device) -> Path:
    """Train an expert; return its checkpoint. After a kill the same call goes on from the last saved step.

    Args:
        source: of its images.
        how: it is trained.
        about: what its checkpoint says of its data, as JSON values.
        folder: of the training; it is made.
        device: that renders and trains.
    """
    rotations = how.task == "rotation"
    accelerator = engine.accelerator(device, engine.precision(None, device), 1)
    feed: Feed = source.feed(how.batch_size // (TURNS if rotations else 1), how.image_size, how.seed, device)
    if rotations:
        feed = Turned(feed)
    outputs = TURNS if rotations else source.classes
    network = models.create(how.model, outputs, how.image_size, seed=how.seed)
    steps = max(1, how.images // how.batch_size)
    settings = Settings(
        steps=steps, batch_size=how.batch_size, lr=how.lr, weight_decay=WEIGHT_DECAY, warmup=steps // WARMUP,
        amp=engine.precision(None, device), seed=how.seed,
    )  # fmt: skip
    made = {
        "name": how.model, "classes": outputs, "image_size": how.image_size, "mean": [*HALVES], "std": [*HALVES]
    }  # fmt: skip

    def described(state: dict[str, Any]) -> dict[str, Any]:
        return {"kind": f"expert-{how.task}", "model": made, "data": about, "stream": state}

    training = Training(
        accelerator, network, feed, nn.CrossEntropyLoss(), settings, folder_of(folder), described
    )  # fmt: skip
    go(training, LOG_EVERY, SAVE_EVERY, False)
    return folder / CHECKPOINT


class Shown:
    """Images that several experts look at: read, resized and cropped once for all experts of a size.

    Args:
        samples: the images.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._at: dict[int, Samples] = {}

    def at(self, side: int) -> Samples:
        """Return samples whose images are tensors, uint8 ``[3, S, S]``, as an evaluation crops them."""
        if side not in self._at:
            bytes_of = test_transform(side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # to [0, 1], in steps of 1/255
            pixels = torch.stack(
                [bytes_of(self._samples[i][0]).mul_(255.0).round_().to(torch.uint8) for i in range(len(self._samples))]
            )  # [N, 3, S, S]
            image: Any = pixels.__getitem__
            names = [str(i) for i in range(len(pixels))]
            made = Set(names, self._samples.labels, self._samples.classes, image)
            self._at[side] = Samples(made, np.arange(len(pixels)))
        return self._at[side]


def normalised(mean: Sequence[float], std: Sequence[float]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the normalisation of bytes, uint8 ``[3, S, S]``, with the roundings of torchvision's transforms."""
    centre, scale = (
        torch.tensor(list(values), dtype=torch.float32, device="cpu").view(3, 1, 1) for values in (mean, std)
    )
    return lambda image: image.to(torch.float32).div_(255.0).sub_(centre).div_(scale)


def score(path: Path, task: str, shown: Shown, device: torch.device) -> float:
    """Return what an expert makes of images: a share of right answers, 0 to 1.

    With the task ``"rotation"`` the expert says by how much each image was rotated. With ``"classify"`` new linear
    heads (ridge regression) are fitted to its frozen features, by five-fold cross-validation: a head that was fitted to
    four fifths of the images judges the others. Of 6 to 999 images the folds are drawn two to four times.

    Args:
        path: the expert's checkpoint.
        task: of the experts.
        shown: the images; labels are used for ``"classify"`` alone.
        device: that computes.
    """
    made = checkpoint.describe(path)["model"]
    samples, transform = shown.at(made["image_size"]), normalised(made["mean"], made["std"])
    with engine.explained(BATCH, device):
        model = checkpoint.load(path).to(device)
        if task == "rotation":
            return rotation_accuracy(model, samples, transform, BATCH, device)
        return _linear(last_features(model, samples, transform, made["image_size"], device), samples)


def last_features(model: nn.Module, samples: Samples, transform: Any, side: int, device: torch.device) -> np.ndarray:
    """Return the features of images after the last block of a model, float32 ``[N, C]``."""
    last = depth(model.cpu(), side)
    return features(model.to(device), samples, transform, [last], BATCH, 0, device)[last]


def judges(samples: Samples) -> bool:
    """Return whether a linear head on these images says anything: those of one class are right whatever the expert."""
    return len(np.unique(samples.labels)) >= FEWEST


def _linear(found: np.ndarray, samples: Samples) -> float:
    """Return the accuracy of linear heads in a cross-validation; ``found``: features, float32 ``[N, C]``.

    Judging one fifth alone would leave an accuracy of 51 of 256 images an error of 5 points, more than the experts of
    two alike recipes differ by: 38 of 50 clients found the family of their recipe so, 47 by a cross-validation.
    """
    count = len(samples)
    if not judges(samples):
        raise ValueError(
            f"data must have labelled images of at least {FEWEST} classes for experts on classes, got {count} "
            f"{'image' if count == 1 else 'images of one class'}"
        )
    rounds = min(ROUNDS, -(-JUDGED // count)) if count > FOLDS else 1
    right = 0
    for number in range(rounds):
        shuffled = order(count, number, 0)
        for fold in range(min(FOLDS, count)):
            judged, fitted = shuffled[fold::FOLDS], np.delete(shuffled, np.s_[fold::FOLDS])
            mean, spread = found[fitted].mean(0), found[fitted].std(0) + 1e-6
            x = ((found - mean) / spread).astype(np.float64)
            right += int((ridge(x[fitted], samples.labels[fitted], x[judged]) == samples.labels[judged]).sum())
    return right / (rounds * count)
