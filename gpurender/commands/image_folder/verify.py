"""Verification of an export: every file of a selection is there and has the pixels of the recipe."""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gpurender.commands.image_folder.claims import recipe_manifest, to_verify
from gpurender.commands.image_folder.export import batches, write
from gpurender.commands.image_folder.foreign import foreign_entries, foreign_images
from gpurender.commands.image_folder.layout import class_folders, is_whole, make_folders, require_folders
from gpurender.commands.image_folder.pictures import damages, read_png
from gpurender.commands.image_folder.selection import Selection
from gpurender.commands.image_folder.shards import ShardLike
from gpurender.commands.image_folder.shards import shard as as_shard
from gpurender.commands.image_folder.tally import Tally, noting
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.util import checks
from gpurender.util.progress import progress
from gpurender.util.ranges import Numbers

MISSING = "missing"
NO_FILE = ("a pipe or device", "a directory")  # a repair would wait for a pipe's reader
FOREIGN = "not of this recipe, but ImageFolder would read it: remove it"


class Problem(NamedTuple):
    """A file or folder of an export that is missing, damaged or foreign, and whether it is repaired now."""

    path: Path
    reason: str
    repaired: bool = False


class Report(NamedTuple):
    """The numbers of images verified, of all problems found, of those repaired, and of those with something foreign."""

    images: int
    problems: int
    repaired: int
    foreign: int


def verify(
    recipe: RecipeLike,
    folder: str | os.PathLike[str],
    *,
    limit: int | None = None,
    per_class: int | None = None,
    classes: Numbers | None = None,
    shard: ShardLike | None = None,
    repair: bool = False,
    device: str | torch.device = "cpu",
    on_problem: Callable[[Problem], None] = lambda _: None,
) -> Report:
    """Compare an export with its recipe, and report what is missing, damaged or foreign.

    Every file of the selection is decoded in full. The images whose files can be decoded and have the right size are
    rendered, and all pixels are compared. Foreign are folders that are no class of the recipe, and images that the
    recipe does not name, beside or in the folders of the selection: ImageFolder would read them, too. Images of a
    larger selection are neither looked at nor foreign. Without ``repair`` nothing is written.

    Of several shards each looks for foreign images in its part of the folders, and the first one for foreign folders.

    Args:
        recipe, folder, limit, per_class, classes, shard, device: as in :func:`gpurender.export`.
        repair: write the images again that are missing or damaged, as far as their files can be written, and make
            missing folders. Nothing foreign is removed.
        on_problem: called with each problem: the images in the order of the samples, then folders, then what is
            foreign.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; the folder holds no export, or
            another recipe's.
        RuntimeError: an image is to be written again, and another process exports into the folder.
        OSError, KeyboardInterrupt: passed on, with a note of how many images have been looked at and written again.
    """
    renderer = Renderer(as_recipe(recipe), device)
    require_folders(renderer.recipe)
    selection = Selection(renderer.recipe, limit=limit, per_class=per_class, classes=classes)
    part = as_shard(shard)
    root, repair = checks.path("folder", folder), checks.boolean("repair", repair)
    with to_verify(root, recipe_manifest(renderer.recipe), part, repair):
        folders = class_folders(root, renderer, selection)
        absent = [path for path in folders if not path.is_dir()]
        if repair:
            make_folders(folders)
        check = _Check(renderer, repair, on_problem)
        check.images(root, selection, *part.part(len(selection)))
        check.folders(absent)
        check.foreign(foreign_images(renderer, root, folders[slice(*part.part(len(folders)))]))
        if part.index == 0:
            check.foreign(foreign_entries(root, renderer.recipe))
    return check.report


class _Check:
    """A verification under way."""

    def __init__(self, renderer: Renderer, repair: bool, on_problem: Callable[[Problem], None]) -> None:
        self._renderer, self._repair, self._on_problem = renderer, repair, on_problem
        self._seen = self._problems = self._repaired = self._foreign = 0
        self._written = Tally(0)
        self._lost: set[Path] = set()  # folders with a problem

    @property
    def report(self) -> Report:
        return Report(self._seen, self._problems, self._repaired, self._foreign)

    def images(self, root: Path, selection: Selection, first: int, end: int) -> None:
        """Verify the images at places ``first`` to ``end - 1`` of the selection."""
        with (
            noting(lambda: self._note(end - first)),
            progress(total=end - first, desc=f"verify {root}", unit="image") as bar,
        ):
            for samples, paths in batches(self._renderer, root, selection, first, end):
                wrong = _wrong(self._renderer, samples, paths)
                if self._repair:
                    wrong = self._repaired_of(wrong)
                if wrong:
                    bar.clear()  # the lines of the problems may go to the same terminal
                for problem in wrong.values():
                    self._found(problem)
                self._seen += len(samples)
                bar.update(len(samples))

    def folders(self, absent: list[Path]) -> None:
        """Report absent folders of classes, unless an image in the folder has been reported."""
        for path in absent:
            if path not in self._lost:
                made = path.is_dir()
                self._found(Problem(path, "not a directory" if path.exists() and not made else MISSING, made))

    def foreign(self, paths: Iterable[Path]) -> None:
        """Report what is foreign."""
        for path in paths:
            self._foreign += 1
            self._found(Problem(path, FOREIGN))

    def _repaired_of(self, wrong: dict[int, Problem]) -> dict[int, Problem]:
        """Write images again; return their problems with what became of them."""
        refused = {path: "remove it first" for path, reason, _ in wrong.values() if reason in NO_FILE}
        wanted = {sample: problem.path for sample, problem in wrong.items() if problem.path not in refused}
        write(self._renderer, wanted, self._written, refused)
        return {
            sample: problem._replace(reason=f"{problem.reason}; not repaired: {refused[problem.path]}")
            if problem.path in refused
            else problem._replace(repaired=True)
            for sample, problem in wrong.items()
        }

    def _note(self, total: int) -> str:
        again = f", {self._written.written} are written again" if self._repair else ""
        return f"{self._seen} of {total} images are checked{again}"

    def _found(self, problem: Problem) -> None:
        self._problems += 1
        self._repaired += problem.repaired
        self._lost.add(problem.path.parent)
        self._on_problem(problem)


def _wrong(renderer: Renderer, samples: list[int], paths: list[Path]) -> dict[int, Problem]:
    """Return the problems of the files of samples."""
    reasons = damages(renderer, samples, paths, _decoded)
    return {samples[i]: Problem(paths[i], reason) for i, reason in enumerate(reasons) if reason}


def _decoded(path: Path, size: int) -> np.ndarray | str:
    """Return the pixels of a PNG file as ImageFolder reads them, uint8 ``[S, S, 3]``, or what is wrong with it."""
    try:
        there = path.stat()
        if not stat.S_ISREG(there.st_mode):
            return NO_FILE[path.is_dir()]
        if there.st_size == 0:
            return "empty"
        if not is_whole(path):
            return "damaged: the end of the PNG file is missing"
        return read_png(path, size)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except Exception as error:  # whatever Pillow raises for broken data: OSError, SyntaxError, ValueError ...
        return f"damaged: {getattr(error, 'strerror', None) or error}"
