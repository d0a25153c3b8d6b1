"""A name for the sources and compilers of the kernels.

The name is a hash of the bytes of all kernel sources (Numba inlines functions of other files, but checks the time of
the caller's own file only), of the sources that kernels import from elsewhere, and of the versions of this package,
Python and the compilers.
"""

import functools
import hashlib
import importlib.metadata
import logging
import platform
import sys
from pathlib import Path

from gpurender.util.version import __version__

log = logging.getLogger("gpurender")

PACKAGE = Path(__file__).parent.parent
FOLDERS = ("kernels", "numerics")  # kernels, and the sources that they import from elsewhere
DECORATOR = "runtime/numba_jit.py"
SUFFIXES = {".py", ".cu", ".cuh"}
COMPILERS = ("numba", "llvmlite", "numpy")  # NVRTC's version is in the names of its files, and Triton has its own cache


@functools.cache
def fingerprint() -> str | None:
    """Return the name of the sources as they were at the first call of this function, 32 hex digits; ``None`` if the
    sources cannot be read.
    """
    return current_fingerprint()


def current_fingerprint() -> str | None:
    """Return the name of the sources as they are now."""
    digest = hashlib.sha256()
    try:
        sources = [path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*") if path.suffix in SUFFIXES]
        for path in [*sorted(sources), PACKAGE / DECORATOR]:
            contents = path.read_bytes()
            digest.update(f"{path.relative_to(PACKAGE)}\0{len(contents)}\0".encode())
            digest.update(contents)
    except OSError as error:  # for example, the package was imported from an archive
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
