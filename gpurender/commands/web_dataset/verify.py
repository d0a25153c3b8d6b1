"""Verification of tar files: every one is there, and has the keys, the labels and the pixels of the recipe."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from gpurender.commands.image_folder.claims import to_verify
from gpurender.commands.image_folder.pictures import damages, read_png
from gpurender.commands.image_folder.selection import Selection
from gpurender.commands.image_folder.shards import ShardLike
from gpurender.commands.image_folder.shards import shard as as_shard
from gpurender.commands.image_folder.tally import noting
from gpurender.commands.image_folder.verify import MISSING, Problem, Report
from gpurender.commands.web_dataset.manifest import tars_manifest
from gpurender.commands.web_dataset.tars import Entry, Tars, is_whole
from gpurender.commands.web_dataset.write import write_tar
from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.util import checks
from gpurender.util.atomic_files import DISK
from gpurender.util.progress import progress
from gpurender.util.ranges import Numbers

FOREIGN = "not of this export, but a reader of *.tar would read it: remove it"


def verify(
    recipe: RecipeLike,
    folder: str | os.PathLike[str],
    *,
    limit: int | None = None,
    per_class: int | None = None,
    classes: Numbers | None = None,
    shard: ShardLike | None = None,
    per_tar: int | None = None,
    repair: bool = False,
    device: str | torch.device = "cpu",
    on_problem: Callable[[Problem], None] = lambda _: None,
) -> Report:
    """Compare an export in tar files with its recipe, and report the files that are missing, damaged or foreign.

    A tar file is damaged unless it has the members of the export, in their order, each picture can be decoded and has
    the pixels of the recipe, and each label is the recipe's. Only its first damage is reported. Foreign are other
    files ``*.tar`` in the folder; of several shards the first one looks for these.

    Args:
        recipe, folder, limit, per_class, classes, shard, per_tar, device: as in :func:`gpurender.export`.
        repair: write the tar files again that are missing or damaged. Nothing foreign is removed.
        on_problem: called with each problem, in the order of the files.

    Returns:
        The number of images in these files, and the numbers of files with a problem.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; the folder holds no such export.
        RuntimeError: with ``repair``, another process exports into the folder.
        OSError, KeyboardInterrupt: passed on, with a note of how many images have been looked at.
    """
    renderer = Renderer(as_recipe(recipe), device)
    selection = Selection(renderer.recipe, limit=limit, per_class=per_class, classes=classes)
    part, repair = as_shard(shard), checks.boolean("repair", repair)
    root = checks.path("folder", folder)
    tars = Tars(root, renderer, selection, per_tar)
    with to_verify(root, tars_manifest(tars), part, repair):
        return _checked(tars, *part.part(tars.count), repair, on_problem, _foreign(tars) if part.index == 0 else [])


def _checked(
    tars: Tars, first: int, end: int, repair: bool, on_problem: Callable[[Problem], None], foreign: list[Path]
) -> Report:
    """Verify tar files ``first`` to ``end - 1`` and report the problems, then the foreign files."""
    total, seen, problems, repaired = tars.images(first, end), 0, 0, 0
    with (
        noting(lambda: f"{seen} of {total} images are checked"),
        progress(total=total, desc=f"verify {tars.root}", unit="image") as bar,
    ):
        for number in range(first, end):
            if reason := _damage(tars, number):
                problem = Problem(tars.path(number), reason)
                problem = _repaired(tars, number, problem) if repair else problem
                problems, repaired = problems + 1, repaired + problem.repaired
                bar.clear()  # the line of the problem may go to the same terminal
                on_problem(problem)
            seen += tars.images(number, number + 1)
            bar.update(tars.images(number, number + 1))
    for path in foreign:
        on_problem(Problem(path, FOREIGN))
    return Report(seen, problems + len(foreign), repaired, len(foreign))


def _repaired(tars: Tars, number: int, problem: Problem) -> Problem:
    """Write a tar file again; return its problem with what became of it."""
    try:
        write_tar(tars, number)
    except OSError as error:
        if error.errno in DISK:
            raise
        return problem._replace(reason=f"{problem.reason}; not repaired: {error.strerror or error}")
    return problem._replace(repaired=True)


def _damage(tars: Tars, number: int) -> str:
    """Return what is wrong with a tar file, or nothing."""
    path = tars.path(number)
    if not path.exists():
        return MISSING
    if not path.is_file():  # a reader would wait for the other end of a pipe
        return "not a file"
    if not is_whole(path):
        return "damaged: the end of the tar file is missing"
    try:
        with tarfile.open(path, "r:") as tar:
            found = _members(tar)
            for entries in tars.batches(number):
                if reason := _wrong(tars.renderer, entries, found):
                    return reason
            return next((f"{name} should not be there" for name, _ in found), "")
    except (OSError, tarfile.TarError) as error:
        return f"damaged: {getattr(error, 'strerror', None) or error}"


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the members of a tar file."""
    for member in tar:
        file = tar.extractfile(member) if member.isfile() else None
        yield member.name, b"" if file is None else file.read()


def _wrong(renderer: Renderer, entries: list[Entry], found: Iterator[tuple[str, bytes]]) -> str:
    """Return what is wrong with the next members of a tar file, which should be those of entries, or nothing."""
    pngs = []
    for entry in entries:
        for ending in ("png", entry.ending):
            name, data = next(found, ("nothing", b""))
            if name != f"{entry.key}.{ending}":
                return f"{name} instead of {entry.key}.{ending}"
            if ending == "png":
                pngs.append(data)
            elif data != entry.label:
                return f"{name}: another label than the recipe's"
    reasons = damages(renderer, [entry.sample for entry in entries], pngs, _decoded)
    return next((f"{entry.key}.png: {reason}" for entry, reason in zip(entries, reasons, strict=True) if reason), "")


def _decoded(png: bytes, size: int) -> np.ndarray | str:
    """Return the pixels of a PNG file, uint8 ``[S, S, 3]``, or what is wrong with it."""
    try:
        return read_png(io.BytesIO(png), size)
    except Exception as error:  # whatever Pillow raises for broken data
        return f"damaged: {error}"


def _foreign(tars: Tars) -> list[Path]:
    """Return the files ``*.tar`` in the folder that are none of the export's."""
    own = {tars.path(number) for number in range(tars.count)}
    return sorted(path for path in tars.root.glob("*.tar") if path not in own)
