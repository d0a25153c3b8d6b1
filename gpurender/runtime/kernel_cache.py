"""Compiled kernels on disk: one file per kernel, complete or absent, in the user's cache and never beside the sources.

The kernels are in a folder named after their sources and compilers (:mod:`gpurender.util.kernel_sources`). So a change
of any source makes another folder, and an old kernel is never loaded. A file ends with a checksum of its name and
contents: a kernel with a damaged, unreadable or missing file is compiled again, and a file that cannot be written is
not kept. That costs time, never correctness, and is no error.

The files are code that is run: a folder must be shared only among people who trust each other.
"""

import atexit
import functools
import hashlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

from gpurender.util import atomic_files, disk_cache, kernel_sources

log = logging.getLogger("gpurender")

CHECKSUM = hashlib.sha256().digest_size  # bytes at the end of a file


def folder() -> Path | None:
    """Return the folder of the kernels of these sources and compilers, which need not exist; ``None`` if the user has
    no cache directory or the sources cannot be read.
    """
    return _below(disk_cache.directory())


def numba_folder() -> Path | None:
    """Return the folder of Numba's kernels: below ``NUMBA_CACHE_DIR`` if that is set, else :func:`folder`."""
    root = os.environ.get("NUMBA_CACHE_DIR")
    return _below(Path(root, "gpurender")) if root else folder()


def _below(root: Path | None) -> Path | None:
    name = kernel_sources.fingerprint()
    return None if root is None or name is None else root / f"kernels-{name}"


def load(path: Path) -> bytes | None:
    """Return the kernel saved at a path, or ``None`` if the file is missing, unreadable or damaged."""
    try:
        contents = path.read_bytes()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.info("kernel is compiled again: %s", error)
        return None
    data, checksum = contents[:-CHECKSUM], contents[-CHECKSUM:]
    if checksum == _checksum(path, data):
        return data
    log.info("kernel is compiled again: %s is damaged", path)
    return None


def save(path: Path, data: bytes) -> bool:
    """Save a kernel at a path, completely or not at all; return whether it was saved."""
    # Otherwise the folder would be named after other sources than those that were compiled.
    if kernel_sources.fingerprint() != kernel_sources.current_fingerprint():
        _not_kept("the sources were changed since they were imported")
        return False
    if error := atomic_files.keep(path, data + _checksum(path, data)):
        _not_kept(f"{error.strerror}: {path.parent}")
    return error is None


def writable(place: Path | None) -> bool:
    """Make a folder and return whether a file can be written in it, by writing one: only that reveals a full disk."""
    if place is None:
        return False
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
            file.flush()
    except OSError:
        return False
    return True


@functools.cache
def _not_kept(reason: str) -> None:
    """Log, once per reason, why kernels are not kept."""
    log.info("compiled kernels are not kept: %s", reason)


def _checksum(path: Path, data: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + data).digest()


def writable_folder(name: str) -> Path:
    """Return a folder in the user's cache or, if that cannot be written, a temporary folder of this process."""
    root = disk_cache.directory()
    if root is not None and writable(root / name):
        return root / name
    place = Path(tempfile.mkdtemp(prefix=f"gpurender-{name}-"))
    atexit.register(_remove, place, os.getpid())
    return place


def _remove(place: Path, maker: int) -> None:
    """Remove the temporary folder of a process; do nothing in a process that was forked from it."""
    if os.getpid() == maker:
        shutil.rmtree(place, ignore_errors=True)
