"""Datasets as files: PNG files in ImageFolder layout, written here, or tar files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gpurender.commands.image_folder.claims import claimed, recipe_manifest
from gpurender.commands.image_folder.layout import (
    Places,
    class_folders,
    is_whole,
    joint_labels,
    make_folders,
    require_folders,
)
from gpurender.commands.image_folder.pictures import canvases, save_png
from gpurender.commands.image_folder.selection import Selection
from gpurender.commands.image_folder.shards import Shard, ShardLike
from gpurender.commands.image_folder.shards import shard as as_shard
from gpurender.commands.image_folder.tally import Tally, noting
from gpurender.commands.web_dataset.tars import Tars
from gpurender.commands.web_dataset.write import export_tars
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.runtime.threads import parallel_ranges
from gpurender.util import checks, keywords
from gpurender.util.atomic_files import DISK, check_writable, replacing
from gpurender.util.progress import progress
from gpurender.util.ranges import Numbers

BATCH = 64  # images
FORMATS = ("imagefolder", "webdataset")


class Counts(NamedTuple):
    """The numbers of images that an export has written, and of those that were present already."""

    written: int
    present: int


@keywords.checked
def export(
    recipe: RecipeLike,
    folder: str | os.PathLike[str],
    *,
    limit: int | None = None,
    per_class: int | None = None,
    classes: Numbers | None = None,
    shard: ShardLike | None = None,
    format: str = "imagefolder",
    per_tar: int | None = None,
    device: str | torch.device = "cpu",
) -> Counts:
    """Write a dataset, or a part of it, as files: PNG files for torchvision's ``ImageFolder``, or tar files of them.

    >>> gr.export("visualatom-1k", "atoms", per_class=10)  # 10,000 files atoms/<label>/<class>_<instance>.png
    Counts(written=10000, present=0)

    Label and class are the same, except in a recipe with label noise. The recipe itself is ``folder/recipe.json``.

    Every file is complete or absent, so running the export again finishes a killed run; a file that does not end as a
    PNG file does (empty or cut off by a power cut or an interrupted copy) is written again. Only one process at a time
    may write a folder, except that different shards may be written at once; a file system without locks cannot enforce
    this, and a warning in the log says so.

    Every selected class has a folder, with images or without, whatever the shard. ``ImageFolder(folder,
    allow_empty=True)`` numbers the folders, so its labels are the recipe's if all classes are selected. Under a
    ``limit`` every selected class up to the last one with an image has a folder. A warning in the log names classes
    without images.

    ``format="webdataset"`` writes tar files 000000.tar, 000001.tar and so on, for the package webdataset, and
    ``folder/webdataset.json``, which has the recipe. A sample is two members, ``<class>_<instance>.png`` and ``.cls``,
    the label; with multi-hot labels ``.json``, the list of the image's classes. Every tar file has images of the whole
    range of classes, is complete or absent, and has the same bytes each time. A shard is a part of the tar files. The
    folder takes no other selection later, because it decides what each tar file has.

    Args:
        recipe: any argument of ``gr.recipe``.
        folder: new, empty, or that of an earlier export of the same recipe.
        limit: only the first ``limit`` images of those that ``per_class`` and ``classes`` select.
        per_class: only the first ``per_class`` images of every class.
        classes: only these classes: a text such as ``"0-9,42"``, an integer, or a list, range or array of integers.
        shard: only this part of the selected images, for one of several processes: ``"I/N"`` or ``(I, N)``, with I from
            0 to N - 1. The N parts are disjoint and complete. ``None``: all of them, whatever the environment says.
        format: ``"imagefolder"`` or ``"webdataset"``.
        per_tar: the most images of a tar file, for ``format="webdataset"``; default 1000. All tar files have the same
            number of images, or one less.
        device: where to render.

    Returns:
        The numbers of images written now and present already.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; the folder holds something else, or
            no image can be written into it.
        RuntimeError: another process exports into the folder, or the same shard.
        OSError, KeyboardInterrupt: passed on, with a note of how many images are complete; complete images stay,
            half-written files do not.
    """
    checks.choice("format", format, FORMATS)
    if per_tar is not None and format != "webdataset":
        raise ValueError(f"per_tar must be left out for format {format!r}, got {checks.shown(per_tar)}")
    renderer = Renderer(as_recipe(recipe), device)
    if format == "imagefolder":
        require_folders(renderer.recipe)
    selection = Selection(renderer.recipe, limit=limit, per_class=per_class, classes=classes)
    part = as_shard(shard)
    root = checks.path("folder", folder)
    if format == "webdataset":
        tally = export_tars(Tars(root, renderer, selection, per_tar), part)
    else:
        tally = _export_folders(root, renderer, selection, part)
    return Counts(tally.written, tally.present)


def _export_folders(root: Path, renderer: Renderer, selection: Selection, part: Shard) -> Tally:
    """Write the images of a shard that are not there yet, and the folders of all classes; return the numbers."""
    first, end = part.part(len(selection))
    tally = Tally(end - first)
    with claimed(root, recipe_manifest(renderer.recipe), part):
        make_folders(class_folders(root, renderer, selection))
        with noting(tally.note), progress(total=tally.total, desc=f"export to {root}", unit="image") as bar:
            for samples, paths in batches(renderer, root, selection, first, end):
                absent = missing(samples, paths)
                tally.present += len(samples) - len(absent)
                write(renderer, absent, tally)
                bar.update(len(samples))
    return tally


def batches(
    renderer: Renderer, root: Path, selection: Selection, first: int, end: int
) -> Iterator[tuple[list[int], list[Path]]]:
    """Yield samples and paths of places ``first`` to ``end - 1`` of a selection, some at a time."""
    places = Places(root, renderer.recipe)
    for begin in range(first, end, BATCH):
        samples = selection.samples(begin, min(begin + BATCH, end)).tolist()
        yield samples, places.paths(samples, joint_labels(renderer, samples).tolist())


def missing(samples: list[int], paths: list[Path]) -> dict[int, Path]:
    """Return the samples with missing images and their paths; threads look in parallel, for network file systems."""
    whole = [False] * len(paths)

    def look(start: int, stop: int) -> None:
        whole[start:stop] = map(is_whole, paths[start:stop])

    parallel_ranges(len(paths), look)
    return {sample: path for sample, path, there in zip(samples, paths, whole, strict=True) if not there}


def write(renderer: Renderer, wanted: dict[int, Path], tally: Tally, refused: dict[Path, str] | None = None) -> None:
    """Render and write the images of some samples.

    With ``refused`` a file that cannot be written is noted there with the reason, and the others are written; a full or
    broken disk is an error still. Without it, no sample has a whole file yet.
    """
    if not wanted:
        return
    paths = list(wanted.values())
    written = [False] * len(paths)
    if refused is None and tally.written == 0:
        check_writable(paths[0])
    pictures = canvases(renderer, list(wanted))

    def save(start: int, stop: int) -> None:
        for i in range(start, stop):
            try:
                _save(pictures[i], paths[i])
                written[i] = True
            except OSError as error:
                if refused is None or error.errno in DISK:
                    raise
                refused[paths[i]] = error.strerror or str(error)

    try:
        parallel_ranges(len(paths), save)
    finally:  # Ctrl-C may come between writing a file and noting it
        done = zip(written, paths, strict=True)
        tally.written += sum(noted or (refused is None and is_whole(path)) for noted, path in done)


def _save(picture: np.ndarray, path: Path) -> None:
    with replacing(path) as temporary:
        save_png(picture, temporary)
