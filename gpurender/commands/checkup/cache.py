"""The files that gpurender keeps on disk: their size, and their removal.

Only files with gpurender's own names are counted and removed, as a user may choose a folder that has other files. What
Triton or CuPy keep is theirs.

Removal is safe while other processes run: a process reads a file as a whole, makes a missing file again, and goes on
without keeping a file that it cannot keep. A file that is being written now is left.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpurender.runtime import kernel_cache
from gpurender.util import disk_cache
from gpurender.util.atomic_files import ABANDONED, TEMPORARY

SEARCH = re.compile(r"[a-z]+-[0-9a-f]{64}\.json")
KERNELS = re.compile(r"kernels-[0-9a-f]{32}")
KERNEL = re.compile(r"[\w.<>-]+-[0-9a-f]{32}\.(numba|cubin|ptx)")


@dataclass
class Cleaned:
    """What :func:`clean` did to a folder: the files and bytes removed, and an error for each file that stays."""

    folder: Path
    files: int = 0
    bytes: int = 0
    errors: list[OSError] = field(default_factory=list)


def folders() -> list[Path]:
    """Return the folders in which gpurender keeps files of all versions; they need not exist."""
    numba = kernel_cache.numba_folder()
    found = [disk_cache.directory(), None if numba is None else numba.parent]
    return list(dict.fromkeys(folder for folder in found if folder is not None))


def size() -> int:
    """Return the bytes of all files that gpurender keeps."""
    return sum(_bytes(file) for folder in folders() for file in _files(folder))


def clean() -> Iterator[Cleaned]:
    """Remove the files that gpurender keeps, folder by folder, and folders of kernels that are then empty.

    Yields:
        What was done to a folder.
    """
    for folder in folders():
        done = Cleaned(folder)
        for file in list(_files(folder)):
            taken = _bytes(file)
            try:
                os.unlink(file)
            except FileNotFoundError:  # another process was faster
                continue
            except OSError as error:
                done.errors.append(error)
                continue
            done.files, done.bytes = done.files + 1, done.bytes + taken
        for inner in _kernel_folders(folder):
            with contextlib.suppress(OSError):  # something is in it
                os.rmdir(inner)
        yield done


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield gpurender's own files in a folder and its folders of kernels, without those that are being written."""
    yield from _matching(folder, SEARCH)
    for inner in _kernel_folders(folder):
        yield from _matching(inner, KERNEL)


def _kernel_folders(folder: Path) -> list[Path]:
    """Return the folders of kernels, of all versions; links are not followed."""
    return [
        Path(entry)
        for entry in _entries(folder)
        if KERNELS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
    ]


def _matching(folder: Path, names: re.Pattern[str]) -> Iterator[os.DirEntry[str]]:
    for entry in _entries(folder):
        own = names.fullmatch(entry.name) or (entry.name.startswith(TEMPORARY) and _age(entry) > ABANDONED)
        if own and entry.is_file(follow_symlinks=False):
            yield entry


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # there is none, or it cannot be read
        return []


def _bytes(file: os.DirEntry[str]) -> int:
    try:
        return file.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _age(file: os.DirEntry[str]) -> float:
    """Return the seconds since a file was changed; 0 for a file that is gone."""
    try:
        return time.time() - file.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0
