"""Datasets as PNG files in ImageFolder layout."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.runtime.threads import parallel_ranges
from gpurender.util import checks
from gpurender.util.atomic_files import TEMPORARY, check_writable, replacing
from gpurender.util.folder_lock import LOCK, alone
from gpurender.util.progress import progress

log = logging.getLogger("gpurender")

MANIFEST = "recipe.json"
BATCH = 64  # images
ABANDONED = 86_400  # seconds: a file that has been unfinished for a day belongs to no living process
PNG_END = bytes.fromhex("0000000049454e44ae426082")  # the chunk IEND, which ends every whole PNG file


def export(
    recipe: Recipe | str, directory: str | os.PathLike[str], *, limit: int | None = None, device: str = "cpu"
) -> tuple[int, int]:
    """Write ``directory/<label>/<class>_<instance>.png`` and the recipe itself as ``directory/recipe.json``.

    Label and class are the same, except in a recipe with label noise.

    Every file is complete or absent, so running the export again finishes a killed run; a file that does not end as a
    PNG file does (after a power cut or an interrupted copy) is written again. Only one process at a time may write a
    directory; a file system without locks cannot enforce this, and a warning in the log says so.

    Every class has a folder, with images or without, so the labels that torchvision's ``ImageFolder(directory,
    allow_empty=True)`` counts are the recipe's. Under a ``limit`` every class up to the last one with an image has a
    folder. A warning in the log names classes without images.

    Args:
        recipe: any argument of ``gr.recipe``.
        directory: new, empty, or that of an earlier export of the same recipe.
        limit: export only samples ``0 .. limit - 1``; ``None``: all.

    Returns:
        The numbers of images written now and present already.

    Raises:
        ValueError: the directory holds something else, or no image can be written into it.
        RuntimeError: another process exports into the directory.
        OSError, KeyboardInterrupt: passed on, with a note of how many images are complete; complete images stay,
            half-written files do not.
    """
    renderer = Renderer(recipe, device)
    total = len(renderer.recipe)
    total = total if limit is None else min(total, checks.integer("limit", limit, 1, 2**63 - 1))
    root = Path(directory)
    _make(root)
    tally = Tally(total)
    with alone(root, "another export writes") as locked:
        _claim(root, renderer.recipe, locked)
        _make_folders(root, renderer, total, all_of_them=limit is None)
        with _told(tally):
            _export(renderer, Places(root, renderer.recipe), tally)
    return tally.written, tally.present


@dataclass
class Tally:
    """The progress of an export, in images."""

    total: int
    written: int = 0
    present: int = 0


@contextlib.contextmanager
def _told(tally: Tally) -> Iterator[None]:
    """Add a note of the tally to an error or Ctrl-C in the block (``__notes__``, which tracebacks show)."""
    try:
        yield
    except (OSError, KeyboardInterrupt) as error:
        note = f"{tally.written + tally.present} of {tally.total} images are there; the same command goes on from them"
        vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), note]  # as add_note of Python 3.11 does
        raise


def _export(renderer: Renderer, places: "Places", tally: Tally) -> None:
    """Write the images that are missing."""
    with progress(total=tally.total, desc=f"export to {places.root}", unit="image") as bar:
        for first in range(0, tally.total, BATCH):
            samples = list(range(first, min(first + BATCH, tally.total)))
            paths = places.paths(samples, _labels(renderer, samples).tolist())
            missing = _missing(samples, paths)
            tally.present += len(samples) - len(missing)
            if missing and tally.written == 0:
                check_writable(next(iter(missing.values())))
            _write(renderer, missing, tally)
            bar.update(len(samples))


def _labels(renderer: Renderer, samples: list[int] | np.ndarray) -> torch.Tensor:
    """Return the labels of samples as numbers of classes, int64 ``[N]``."""
    return renderer.recipe.joint(renderer.labels(samples))


class Places:
    """The paths of a recipe's images."""

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self.root, self._recipe = root, recipe
        self._digits = max(4, len(str(recipe.instances - 1)))
        counts = recipe.class_counts()
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts

    def paths(self, samples: list[int], labels: list[int]) -> list[Path]:
        """Return the files of samples that have these labels."""
        found = []
        for sample, label in zip(samples, labels, strict=True):
            number = int(np.searchsorted(self._ends, sample, side="right"))
            instance, name = sample - int(self._begins[number]), self._recipe.class_name(number)
            found.append(self.root / self._recipe.class_name(label) / f"{name}_{instance:0{self._digits}d}.png")
        return found


def _make(root: Path) -> None:
    """Make the directory, or raise ``ValueError``."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"directory {str(root)!r} is not a directory")
    try:
        Path(os.path.realpath(root)).mkdir(parents=True, exist_ok=True)  # realpath: also the target of a link
    except OSError as error:
        raise ValueError(f"directory {str(root)!r} cannot be made: {error.strerror}") from None


def _claim(root: Path, recipe: Recipe, locked: bool) -> None:
    """Claim the directory for this recipe, or refuse it; remove the unfinished files of a killed run.

    Without a lock, unfinished files may be those of another process, so only old ones are removed.
    """
    manifest = root / MANIFEST
    if manifest.exists():
        there = as_recipe(manifest)
        if there.fingerprint != recipe.fingerprint:
            raise ValueError(
                f"directory {str(root)!r} holds another recipe: "
                f"its fingerprint is {there.fingerprint[:12]}, not {recipe.fingerprint[:12]}"
            )
    elif any(path.name != LOCK and not path.name.startswith(TEMPORARY) for path in root.iterdir()):
        raise ValueError(
            f"directory {str(root)!r} must be empty or hold an earlier export; it has files but no {MANIFEST}"
        )
    else:
        check_writable(manifest)
        with replacing(manifest, durable=True) as temporary:
            Path(temporary).write_text(recipe.to_json() + "\n", encoding="utf-8")
    if not locked:
        log.warning("%s: its file system has no locks, so nothing keeps two exports from writing it at once", root)
    now = time.time()
    for folder in (root, *(path for path in root.iterdir() if path.is_dir())):
        for leftover in os.scandir(os.path.realpath(folder)):
            with contextlib.suppress(OSError):
                abandoned = locked or now - leftover.stat().st_mtime > ABANDONED
                if leftover.name.startswith(TEMPORARY) and abandoned:
                    os.unlink(leftover)


def _make_folders(root: Path, renderer: Renderer, total: int, *, all_of_them: bool) -> None:
    """Make a folder for every class, or for those up to the last with an image; log the classes without images.

    ImageFolder numbers the existing folders. A class without a folder would shift the labels of all later classes.
    """
    recipe = renderer.recipe
    filled = _classes_with_images(renderer, total)
    last = recipe.classes if all_of_them else int(np.flatnonzero(filled)[-1]) + 1
    names = [recipe.class_name(number) for number in range(last)]
    there = set(os.listdir(root))
    for name in names:
        if name not in there:
            (root / name).mkdir(exist_ok=True)
    if empty := [name for name, full in zip(names, filled, strict=False) if not full]:
        log.warning(
            "%s: no image of class %s%s; ImageFolder(directory, allow_empty=True) counts the recipe's labels",
            root, ", ".join(empty[:5]), f" and of {len(empty) - 5} more" if len(empty) > 5 else "",
        )  # fmt: skip


def _classes_with_images(renderer: Renderer, total: int) -> np.ndarray:
    """Return which classes are the label of one of the first ``total`` samples, bool ``[classes]``."""
    filled = np.zeros(renderer.recipe.classes, bool)
    if renderer.has_default_labels:
        filled[: -(-total // renderer.recipe.instances)] = True
        return filled
    for labels in renderer.first_labels(total):
        filled[renderer.recipe.joint(labels).cpu().numpy()] = True
    return filled


def _is_whole(path: Path) -> bool:
    """Return whether an image file exists and is complete; a file without read permission counts as complete."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except PermissionError:
        return True
    except OSError:
        return False


def _missing(samples: list[int], paths: list[Path]) -> dict[int, Path]:
    """Return the samples with missing images and their paths; threads look in parallel, for network file systems."""
    whole = [False] * len(paths)

    def look(start: int, stop: int) -> None:
        whole[start:stop] = map(_is_whole, paths[start:stop])

    parallel_ranges(len(paths), look)
    return {sample: path for sample, path, there in zip(samples, paths, whole, strict=True) if not there}


def _write(renderer: Renderer, missing: dict[int, Path], tally: Tally) -> None:
    """Render and write the images of some samples."""
    if not missing:
        return
    pictures = renderer(list(missing)).permute(0, 2, 3, 1).cpu().numpy()  # [N, S, S, C] uint8
    paths = list(missing.values())

    def save(start: int, stop: int) -> None:
        for i in range(start, stop):
            _save(pictures[i], paths[i])

    try:
        parallel_ranges(len(paths), save)
    except BaseException:  # also Ctrl-C, which may come between writing a file and counting it
        tally.written += sum(map(_is_whole, paths))
        raise
    tally.written += len(paths)


def _save(picture: np.ndarray, path: Path) -> None:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
