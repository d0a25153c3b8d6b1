"""CuPy's cache folder: ``$CUPY_CACHE_DIR``, by default ``~/.cupy/kernel_cache``.

The folder contains no kernels of this package (:mod:`gpurender.runtime.cuda` compiles them itself), but CuPy makes the
folder on import, and the import fails if the folder cannot be made, for example in a read-only home.
"""

import functools
import importlib
import logging
import os
from pathlib import Path
from typing import Any

from gpurender.runtime import kernel_cache

log = logging.getLogger("gpurender")


def imported() -> Any:
    """Return CuPy, imported when it has a folder that can be written."""
    make_usable()
    return importlib.import_module("cupy")


@functools.cache
def make_usable() -> None:
    """Set a writable folder for CuPy if its own cannot be written; before CuPy is imported."""
    own = Path(os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache"))
    if own.is_absolute() and kernel_cache.writable(own):
        return
    try:
        place = kernel_cache.writable_folder("cupy")
    except OSError as error:
        log.info("CuPy has no folder that can be written: %s", error)
        return
    log.info("CuPy keeps its kernels in %s, as %s cannot be written", place, own)
    os.environ["CUPY_CACHE_DIR"] = str(place)
