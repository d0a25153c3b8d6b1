"""Claims on an export's folder: which recipe it holds, who may write it, and what killed exports have left there."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gpurender.commands.image_folder.shards import Shard
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.util.atomic_files import ABANDONED, TEMPORARY, check_writable, replacing
from gpurender.util.folder_lock import LOCK, alone, shared, turn

log = logging.getLogger("gpurender")

MANIFEST = "recipe.json"
SHARD_LOCK = f"{LOCK}-shard-"
WRITES = "another export writes"


@contextlib.contextmanager
def claimed(root: Path, recipe: Recipe, shard: Shard) -> Iterator[None]:
    """Make the folder, claim it for this recipe and hold it for one export, or for one shard beside other shards.

    A block that succeeds, while no other process holds the folder, clears what killed exports have left there.

    Raises:
        ValueError: the folder cannot be made, or holds something else.
        RuntimeError: another process writes the folder, or writes this shard.
    """
    _make(root)
    with contextlib.ExitStack() as held:
        if shard.count == 1:
            _claim(root, recipe, held.enter_context(alone(root, WRITES)))
        else:
            with turn(root):  # one shard makes the manifest, before the next looks at the folder
                _claim(root, recipe, held.enter_context(shared(root, WRITES)))
            name = f"{SHARD_LOCK}{shard.index}-of-{shard.count}"
            held.enter_context(alone(root, f"{WRITES} shard {shard} in", name))
        yield
    with contextlib.suppress(RuntimeError), turn(root), alone(root, WRITES) as locked:  # else the last one clears
        _clear(root, locked)


def holds(root: Path, recipe: Recipe) -> bool:
    """Return whether the folder holds an export of the recipe; ``False`` if it holds no export.

    Raises:
        ValueError: it holds an export of another recipe.
    """
    manifest = root / MANIFEST
    if not manifest.exists():
        return False
    there = as_recipe(manifest)
    if there.fingerprint != recipe.fingerprint:
        raise ValueError(
            f"folder {str(root)!r} holds another recipe: "
            f"its fingerprint is {there.fingerprint[:12]}, not {recipe.fingerprint[:12]}"
        )
    return True


def _make(root: Path) -> None:
    """Make the folder, or raise ``ValueError``."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"folder {str(root)!r} is not a directory")
    try:
        Path(os.path.realpath(root)).mkdir(parents=True, exist_ok=True)  # realpath: also the target of a link
    except OSError as error:
        raise ValueError(f"folder {str(root)!r} cannot be made: {error.strerror}") from None


def _claim(root: Path, recipe: Recipe, locked: bool) -> None:
    """Claim the folder for this recipe by a manifest, or refuse it."""
    if not holds(root, recipe):
        if any(not path.name.startswith((LOCK, TEMPORARY)) for path in root.iterdir()):
            raise ValueError(
                f"folder {str(root)!r} must be empty or hold an earlier export; it has files but no {MANIFEST}"
            )
        check_writable(root / MANIFEST)
        with replacing(root / MANIFEST, durable=True) as temporary:
            Path(temporary).write_text(recipe.to_json() + "\n", encoding="utf-8")
    if not locked:
        log.warning("%s: its file system has no locks, so nothing keeps two exports from writing it at once", root)


def _clear(root: Path, locked: bool) -> None:
    """Remove the unfinished files and the locks of killed exports.

    Without a lock, unfinished files may be those of another process, so only old ones are removed.
    """
    now = time.time()
    for folder in (root, *(path for path in root.iterdir() if path.is_dir())):
        for leftover in os.scandir(os.path.realpath(folder)):
            if leftover.name.startswith((TEMPORARY, SHARD_LOCK)):
                with contextlib.suppress(OSError):
                    if locked or now - leftover.stat().st_mtime > ABANDONED:
                        os.unlink(leftover)
