"""Where CuPy keeps what it compiles: ``$CUPY_CACHE_DIR``, by default ``~/.cupy/kernel_cache``.

Nothing of ours is in it (:mod:`gpurender.runtime.cuda` compiles by itself), but CuPy makes the folder when it is
imported, and cannot be imported where the folder cannot be made: in a home that is read-only, say.
"""

import functools
import logging
import os
from pathlib import Path

from gpurender.runtime import kernel_cache

log = logging.getLogger("gpurender")


@functools.cache
def make_usable() -> None:
    """Lead CuPy to a folder that can be written, where its own cannot be; to be called before CuPy is imported."""
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
