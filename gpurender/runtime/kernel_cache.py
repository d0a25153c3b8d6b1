"""Compiled kernels on disk: one file each, whole or absent, in the user's cache and never beside the sources.

They lie in a folder named after everything that they are compiled from: the bytes of all kernel sources (Numba inlines
functions of other files, and looks at the time of the caller's own file only), the version of this package, of Python
and of Numba. So a change of any of them makes another folder, and an old kernel cannot be met. A file ends in a
checksum of its name and contents: what is damaged, unreadable or gone is compiled anew, and what cannot be written is
not kept. That costs time, never correctness, and is no error.

The files are code that is run: a folder is to be shared only among people who trust each other.
"""

import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path

from gpurender import __version__
from gpurender.util import atomic_files, disk_cache

log = logging.getLogger("gpurender")

PACKAGE = Path(__file__).parent.parent
FOLDERS = ("kernels", "numerics")  # kernels, and what they take from elsewhere
DECORATOR = "runtime/numba_jit.py"
SUFFIXES = {".py", ".cu", ".cuh"}
COMPILERS = ("numba", "llvmlite", "numpy")  # NVRTC's version is in the names of its files, and Triton keeps its own
CHECKSUM = hashlib.sha256().digest_size  # bytes at the end of a file


def folder() -> Path | None:
    """Return the folder of the kernels of these sources and compilers, which need not exist; ``None`` where there is no
    place for it, or where the sources cannot be read.
    """
    return _below(disk_cache.directory())


def numba_folder() -> Path | None:
    """Return the folder of Numba's kernels: another one where ``NUMBA_CACHE_DIR`` is set."""
    root = os.environ.get("NUMBA_CACHE_DIR")
    return _below(Path(root, "gpurender")) if root else folder()


def _below(root: Path | None) -> Path | None:
    return None if root is None or law() is None else root / f"kernels-{law()}"


@functools.cache
def law() -> str | None:
    """Return the name of what kernels are compiled from, 32 hex digits, as it was when first asked for."""
    return _law()


def _law() -> str | None:
    digest = hashlib.sha256()
    try:
        sources = [path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*") if path.suffix in SUFFIXES]
        for path in [*sorted(sources), PACKAGE / DECORATOR]:
            contents = path.read_bytes()
            digest.update(f"{path.relative_to(PACKAGE)}\0{len(contents)}\0".encode())
            digest.update(contents)
    except OSError as error:  # imported from an archive, say
        log.info("compiled kernels are not kept: %s", error)
        return None
    versions = [__version__, platform.python_version(), f"{sys.implementation.cache_tag}{sys.abiflags}"]
    digest.update("\0".join([*versions, *map(_version, COMPILERS)]).encode())
    return digest.hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def load(path: Path) -> bytes | None:
    """Return what was saved at a path, or ``None`` if nothing whole is there."""
    try:
        contents = path.read_bytes()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.info("kernel is compiled anew: %s", error)
        return None
    data, checksum = contents[:-CHECKSUM], contents[-CHECKSUM:]
    if checksum == _checksum(path, data):
        return data
    log.info("kernel is compiled anew: %s is damaged", path)
    return None


def save(path: Path, data: bytes) -> bool:
    """Save a kernel at a path, whole or not at all; return whether it is there."""
    if law() != _law():  # the name of the folder would belong to other sources than those that are compiled
        _not_kept("the sources were changed since they were imported")
        return False
    if error := atomic_files.keep(path, data + _checksum(path, data)):
        _not_kept(f"{error.strerror}: {path.parent}")
    return error is None


def writable(place: Path | None) -> bool:
    """Return whether a file can be kept in a folder, which is made for that. It is tried: full disks show only so."""
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
    """Log a reason once."""
    log.info("compiled kernels are not kept: %s", reason)


def _checksum(path: Path, data: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + data).digest()
