"""Claims on an export's folder: which recipe it holds, who may write it, and what killed exports have left there."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpurender.commands.image_folder.shards import Shard
from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.util.atomic_files import ABANDONED, TEMPORARY, check_writable, replacing
from gpurender.util.folder_lock import LOCK, alone, shared, turn

log = logging.getLogger("gpurender")

MANIFEST = "recipe.json"
SHARD_LOCK = f"{LOCK}-shard-"
WRITES = "another export writes"


class Manifest(NamedTuple):
    """The file that says what the folder of an export holds.

    ``check`` raises ``ValueError`` for the path of a manifest of something else.
    """

    name: str
    text: str
    check: Callable[[Path], None]


def recipe_manifest(recipe: Recipe) -> Manifest:
    """Return the manifest of an ImageFolder: the recipe."""

    def check(path: Path) -> None:
        check_fingerprint(path.parent, as_recipe(path), recipe)

    return Manifest(MANIFEST, recipe.to_json(), check)


def check_fingerprint(root: Path, there: Recipe, recipe: Recipe) -> None:
    """Refuse a folder with another recipe."""
    if there.fingerprint != recipe.fingerprint:
        raise ValueError(
            f"folder {str(root)!r} holds another recipe: "
            f"its fingerprint is {there.fingerprint[:12]}, not {recipe.fingerprint[:12]}"
        )


@contextlib.contextmanager
def claimed(root: Path, manifest: Manifest, shard: Shard) -> Iterator[None]:
    """Make the folder, claim it by a manifest and hold it for one export, or for one shard beside other shards.

    A block that succeeds, while no other process holds the folder, clears what killed exports have left there.

    Raises:
        ValueError: the folder cannot be made, or holds something else.
        RuntimeError: another process writes the folder, or writes this shard.
    """
    _make(root)
    with contextlib.ExitStack() as held:
        if shard.count == 1:
            _claim(root, manifest, held.enter_context(alone(root, WRITES)))
        else:
            with turn(root):  # one shard makes the manifest, before the next looks at the folder
                _claim(root, manifest, held.enter_context(shared(root, WRITES)))
            name = f"{SHARD_LOCK}{shard.index}-of-{shard.count}"
            held.enter_context(alone(root, f"{WRITES} shard {shard} in", name))
        yield
    with contextlib.suppress(RuntimeError), turn(root), alone(root, WRITES) as locked:  # else the last one clears
        _clear(root, locked)


def holds(root: Path, manifest: Manifest) -> bool:
    """Return whether the folder holds the export of a manifest; ``False`` if it has no manifest of this name.

    Raises:
        ValueError: it holds another export.
    """
    path = root / manifest.name
    if not path.exists():
        return False
    manifest.check(path)
    return True


@contextlib.contextmanager
def to_verify(root: Path, manifest: Manifest, shard: Shard, repair: bool) -> Iterator[None]:
    """Refuse a folder without the export of a manifest; hold it, as :func:`claimed` does, for a repair.

    Raises:
        ValueError: the folder holds no export, or another one.
        RuntimeError: another process writes what is to be repaired.
    """
    if not holds(root, manifest):
        raise ValueError(f"folder {str(root)!r} must hold an export to verify; it has no {manifest.name}")
    with claimed(root, manifest, shard) if repair else contextlib.nullcontext():
        yield


def _make(root: Path) -> None:
    """Make the folder, or raise ``ValueError``."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"folder {str(root)!r} is not a directory")
    try:
        Path(os.path.realpath(root)).mkdir(parents=True, exist_ok=True)  # realpath: also the target of a link
    except OSError as error:
        raise ValueError(f"folder {str(root)!r} cannot be made: {error.strerror}") from None


def _claim(root: Path, manifest: Manifest, locked: bool) -> None:
    """Claim the folder by a manifest, or refuse it."""
    if not holds(root, manifest):
        if any(not path.name.startswith((LOCK, TEMPORARY)) for path in root.iterdir()):
            raise ValueError(
                f"folder {str(root)!r} must be empty or hold an earlier export; it has files but no {manifest.name}"
            )
        check_writable(root / manifest.name)
        with replacing(root / manifest.name, durable=True) as temporary:
            Path(temporary).write_text(manifest.text + "\n", encoding="utf-8")
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
