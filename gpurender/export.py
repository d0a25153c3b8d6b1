"""A dataset as files, for whoever needs files."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gpurender import checks
from gpurender.files import TEMPORARY, replacing
from gpurender.progress import progress
from gpurender.recipes import Recipe
from gpurender.recipes import recipe as as_recipe
from gpurender.renderer import Renderer

MANIFEST = "recipe.json"
BATCH = 64


def export(
    recipe: Recipe | str, directory: str | os.PathLike[str], *, limit: int | None = None, device: str = "cpu"
) -> tuple[int, int]:
    """Write ``directory/<label>/<class>_<instance>.png`` and the recipe itself as ``directory/recipe.json``.

    Label and class are the same but for a recipe with label noise.

    Every file is there whole or not at all, so a run that was killed is finished by running it again.

    Args:
        recipe: whatever ``gr.recipe`` takes.
        directory: new, empty, or of an earlier export of the same recipe.
        limit: only samples ``0 .. limit - 1``.

    Returns:
        numbers of images written now and present already.

    Raises:
        ValueError: the directory holds something else.
        OSError: it cannot be written; complete images stay, nothing half-written does.
    """
    renderer = Renderer(recipe, device)
    total = len(renderer.recipe)
    total = total if limit is None else min(total, checks.integer("limit", limit, 1, 2**63 - 1))
    root = Path(directory)
    _claim(root, renderer.recipe)
    places, written = Places(root, renderer.recipe), 0
    with (
        ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool,
        progress(total=total, desc=f"export to {root}", unit="image") as bar,
    ):
        for first in range(0, total, BATCH):
            samples = list(range(first, min(first + BATCH, total)))
            paths = places.paths(samples, renderer.recipe.joint(renderer.labels(samples)).tolist())
            missing = {sample: path for sample, path in zip(samples, paths, strict=True) if not path.exists()}
            written += _write(renderer, missing, pool)
            bar.update(len(samples))
    return written, total - written


class Places:
    """Where the images of a recipe lie."""

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self._root, self._recipe = root, recipe
        self._digits = max(4, len(str(recipe.instances - 1)))
        counts = recipe.class_counts()
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts

    def paths(self, samples: list[int], labels: list[int]) -> list[Path]:
        """The files of samples that have these labels."""
        found = []
        for sample, label in zip(samples, labels, strict=True):
            number = int(np.searchsorted(self._ends, sample, side="right"))
            instance, name = sample - int(self._begins[number]), self._recipe.class_name(number)
            found.append(self._root / self._recipe.class_name(label) / f"{name}_{instance:0{self._digits}d}.png")
        return found


def _claim(root: Path, recipe: Recipe) -> None:
    """Make the directory this recipe's, or refuse it; clear what a killed run left unfinished."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"directory {str(root)!r} is not a directory")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        raise ValueError(f"directory {str(root)!r} cannot be made: {error.strerror}") from None
    for leftover in root.rglob(TEMPORARY + "*"):
        leftover.unlink(missing_ok=True)
    manifest = root / MANIFEST
    if manifest.exists():
        there = as_recipe(manifest)
        if there.fingerprint != recipe.fingerprint:
            raise ValueError(
                f"directory {str(root)!r} holds another recipe: "
                f"its fingerprint is {there.fingerprint[:12]}, not {recipe.fingerprint[:12]}"
            )
    elif any(root.iterdir()):
        raise ValueError(
            f"directory {str(root)!r} must be empty or hold an earlier export; it has files but no {MANIFEST}"
        )
    else:
        with replacing(manifest) as temporary:
            Path(temporary).write_text(recipe.to_json() + "\n", encoding="utf-8")


def _write(renderer: Renderer, missing: dict[int, Path], pool: ThreadPoolExecutor) -> int:
    """Draw and write the images of some samples; their number."""
    if not missing:
        return 0
    for folder in {path.parent for path in missing.values()}:
        folder.mkdir(exist_ok=True)
    pictures = renderer(list(missing)).permute(0, 2, 3, 1).cpu().numpy()  # [N, S, S, C] uint8
    jobs = [pool.submit(_save, picture, path) for picture, path in zip(pictures, missing.values(), strict=True)]
    try:
        for job in jobs:
            job.result()
    except BaseException:
        for job in jobs:
            job.cancel()
        with contextlib.suppress(Exception):
            [job.result() for job in jobs if not job.cancelled()]
        raise
    return len(missing)


def _save(picture: np.ndarray, path: Path) -> None:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
