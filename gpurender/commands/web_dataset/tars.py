"""Tar files of a selection: which samples each has, and the keys and labels of its members."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpurender.commands.image_folder.layout import Places, joint_labels
from gpurender.commands.image_folder.selection import Selection
from gpurender.renderer import Renderer
from gpurender.util import checks

PER_TAR = 1000  # images: 74 MB of visualatom-1k; the most that a kill costs a process
BATCH = 64  # images
MAX_PER_TAR = 10**9
END = bytes(1024)  # two empty blocks end every whole tar file
RECORD = 10_240  # bytes: the length of a tar file is a multiple


class Entry(NamedTuple):
    """A sample of a tar file: its key, and the ending and the bytes of its label's member."""

    sample: int
    key: str
    ending: str
    label: bytes


class Tars:
    """The tar files of a selection.

    Of T tar files, number t has the places t, t + T, t + 2 T, ... of the selection. So every tar file has images from
    the whole range of classes, which a reader that shuffles a buffer of images needs, and as many images as any other,
    or one less.

    Args:
        root: folder of the files.
        renderer: of the recipe.
        selection: the samples.
        per_tar: the most images of a tar file, 1 to 10^9; ``None``: 1000.

    Raises:
        TypeError, ValueError: ``per_tar`` is something else.
    """

    def __init__(self, root: Path, renderer: Renderer, selection: Selection, per_tar: int | None) -> None:
        self.per_tar = PER_TAR if per_tar is None else checks.integer("per_tar", per_tar, 1, MAX_PER_TAR)
        self.count = -(-len(selection) // self.per_tar)
        self.root, self.renderer, self.selection = root, renderer, selection
        self._places = Places(root, renderer.recipe)
        self._digits = max(6, len(str(self.count - 1)))

    def path(self, number: int) -> Path:
        """Return the path of a tar file."""
        return self.root / f"{number:0{self._digits}d}.tar"

    def images(self, first: int, end: int) -> int:
        """Return the number of images of tar files ``first`` to ``end - 1``."""
        each, rest = divmod(len(self.selection), self.count)
        return (end - first) * each + max(0, min(end, rest) - min(first, rest))

    def batches(self, number: int) -> Iterator[list[Entry]]:
        """Yield the entries of a tar file, some at a time, in the order of the samples."""
        places = np.arange(number, len(self.selection), self.count)
        for begin in range(0, len(places), BATCH):
            samples = self.selection.at(places[begin : begin + BATCH]).tolist()
            names = self._places.names(samples)
            yield [Entry(*entry) for entry in zip(samples, names, *self._labels(samples), strict=True)]

    def _labels(self, samples: list[int]) -> tuple[list[str], list[bytes]]:
        """Return the endings and the bytes of labels: ``cls``, a number; or ``json``, a list of the image's classes."""
        if self.renderer.recipe.multi_hot:
            rows = self.renderer.labels(samples).cpu().numpy()  # [N, classes]
            texts = [json.dumps(np.flatnonzero(row).tolist()) for row in rows]
        else:
            texts = [str(label) for label in joint_labels(self.renderer, samples).tolist()]
        ending = "json" if self.renderer.recipe.multi_hot else "cls"
        return [ending] * len(samples), [text.encode() for text in texts]


def is_whole(path: Path) -> bool:
    """Return whether a tar file exists and has its end; a file without read permission counts as complete."""
    try:
        with open(path, "rb", buffering=0) as file:
            length = file.seek(-len(END), os.SEEK_END) + len(END)
            return length % RECORD == 0 and file.read() == END
    except PermissionError:
        return True
    except OSError:
        return False
