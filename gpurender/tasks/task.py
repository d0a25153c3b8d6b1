"""Task: a downstream task as data, frozen and validated, with JSON input and output.

Which images are labelled, and which of them are held out for choosing hyperparameters, is a function of the task's seed
and the images' names: every machine has the same few labels, whatever the order in which it lists files.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from gpurender.kernels.philox import words
from gpurender.numerics.streams import Stream
from gpurender.tasks import sources
from gpurender.util import checks, keywords

PARTS = ("train", "validation", "test")
KINDS = tuple(sources.READERS)


@keywords.checked
@dataclass(frozen=True)
class Task:
    """A classification task on real images.

    Args:
        data: an image folder with ``train/`` and ``val/`` (or ``test/``), one folder per class in each; a folder of IDX
            files as MNIST has them; an NPZ file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``; or
            ``"NAME:ROOT"``, a dataset of torchvision that is on disk, such as ``"CIFAR10:/data"``.
        kind: ``"folder"``, ``"idx"``, ``"npz"`` or ``"torchvision"``; ``None``: by what ``data`` looks like.
        labels_per_class: training images per class that are used with their labels; ``None``: all.
        validation: share of the training images held out as ``"validation"``, before the labels are counted, 0 to 0.9.
        seed: unsigned 64-bit key of the choice of labels and held-out images.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """

    data: Any  # after validation: str
    kind: str | None = None
    labels_per_class: int | None = None
    validation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.data, (str, os.PathLike)):
            raise TypeError(f"data must be a path or 'NAME:ROOT', got {checks.shown(self.data)}")
        self._set("data", os.fspath(self.data))
        self._set("kind", checks.choice("kind", self.kind or sources.kind_of(str(self.data)), KINDS))
        if self.labels_per_class is not None:
            self._set("labels_per_class", checks.integer("labels_per_class", self.labels_per_class, 1, 2**31 - 1))
        self._set("validation", checks.real("validation", self.validation, 0.0, 0.9))
        self._set("seed", checks.integer("seed", self.seed, 0, checks.UINT64_MAX))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def to_json(self) -> str:
        """Return the task as JSON text; :meth:`from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Return the task of a JSON text.

        Raises:
            ValueError: the text is no JSON object, or has an unknown or a wrong entry.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a task must be a JSON object: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"a task must be a JSON object, got {checks.shown(values)}")
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"a task has no entry {name!r}{checks.did_you_mean(name, known)}")
        if "data" not in values:
            raise ValueError("a task must have an entry 'data'")
        return cls(**values)

    def samples(self, part: str) -> "Samples":
        """Return the images of a part: ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            ValueError: the data cannot be read; training and test images have different classes; or a class has fewer
                images than ``labels_per_class``.
        """
        checks.choice("part", part, PARTS)
        found = sources.read(self.data, str(self.kind), "test" if part == "test" else "train")
        if part == "test":
            train = sources.read(self.data, str(self.kind), "train")
            if found.classes != train.classes:
                odd = sorted(set(found.classes) ^ set(train.classes))
                raise ValueError(
                    f"data: {self.data} must have the same classes for training and test; {odd[0]!r} differs"
                )
            return Samples(found, np.arange(len(found.labels)))
        return Samples(found, self._chosen(found, part == "validation"))

    def _chosen(self, found: sources.Set, held_out: bool) -> np.ndarray:
        """Return the indices of the training images, or of those held out; ascending, int64."""
        ranks = _keys(self.seed, found.names)
        chosen = []
        for label, name in enumerate(found.classes):
            own = np.flatnonzero(found.labels == label)
            own = own[np.argsort(ranks[own], kind="stable")]  # in an order that only the seed and the names decide
            kept = round(self.validation * len(own))
            if held_out:
                chosen.append(own[:kept])
                continue
            rest, budget = own[kept:], self.labels_per_class
            if budget is not None and len(rest) < budget:
                raise ValueError(
                    f"labels_per_class must be at most {len(rest)}, the images of class {name!r}, got {budget}"
                )
            chosen.append(rest[:budget])
        return np.sort(np.concatenate(chosen))


class Samples:
    """The images of one part of a task: ``samples[i]`` is ``(PIL image in RGB, label)``, as torch's datasets have it.

    Attributes:
        labels: int64 ``[N]``.
        classes: the names of the classes, by label.
    """

    def __init__(self, found: sources.Set, indices: np.ndarray) -> None:
        self._found, self._indices = found, indices
        self.labels, self.classes = found.labels[indices], found.classes

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self._found.image(int(self._indices[index])), int(self.labels[index])

    def part(self, indices: np.ndarray) -> "Samples":
        """Return some of the images: those at ``indices``, int64 ``[M]``."""
        return Samples(self._found, self._indices[indices])


def _keys(seed: int, names: list[str]) -> np.ndarray:
    """Return a random number of each name, uint64 ``[N]``: that at the address of the first 64 bits of its SHA-256."""
    encoded = (name.encode("utf-8", "surrogateescape") for name in names)
    digests = [int.from_bytes(hashlib.sha256(text).digest()[:8], "little") for text in encoded]
    drawn = words(seed, Stream.TASK, np.array(digests, np.uint64))  # uint32 [N, 4]
    return (drawn[:, 0].astype(np.uint64) << np.uint64(32)) + drawn[:, 1].astype(np.uint64)
