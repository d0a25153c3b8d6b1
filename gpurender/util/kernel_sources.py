"""A name for what kernels are compiled from.

It is a hash of the bytes of all kernel sources (Numba inlines functions of other files, and looks at the time of the
caller's own file only), of what they take from elsewhere, and of the versions of this package, Python and compilers.
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
FOLDERS = ("kernels", "numerics")  # kernels, and what they take from elsewhere
DECORATOR = "runtime/numba_jit.py"
SUFFIXES = {".py", ".cu", ".cuh"}
COMPILERS = ("numba", "llvmlite", "numpy")  # NVRTC's version is in the names of its files, and Triton keeps its own


@functools.cache
def fingerprint() -> str | None:
    """Return the name of the sources as they were when this was first called, 32 hex digits; ``None`` if they cannot be
    read.
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
