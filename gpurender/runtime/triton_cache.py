"""Triton's cache folder.

Triton's cache is named by hashes of sources and compiler, like the cache of this package, and is in
``$TRITON_CACHE_DIR``, by default ``~/.triton/cache``. The setting applies to the whole process, including the kernels
of other libraries; Triton has no setting for some kernels only. So Triton's folder is kept if it can be written. If it
cannot be written, every kernel that is not in it yet would fail with an error.
"""

import contextlib
import functools
import logging
import os
from pathlib import Path

from gpurender.runtime import kernel_cache

log = logging.getLogger("gpurender")


@functools.cache
def make_usable() -> None:
    """Set a writable folder for Triton if its own cannot be written; kernels in its own are linked into the new one."""
    own = _own()
    if own.is_absolute() and kernel_cache.writable(own):
        return
    try:
        place = kernel_cache.writable_folder("triton")
    except OSError as error:
        log.info("Triton has no folder that can be written: %s", error)
        return
    with contextlib.suppress(OSError):  # the folder does not exist or cannot be read
        for kernel in own.iterdir():
            with contextlib.suppress(FileExistsError):  # another process makes links, too
                (place / kernel.name).symlink_to(kernel.resolve())
    log.info("Triton keeps its kernels in %s, as %s cannot be written", place, own)
    os.environ["TRITON_CACHE_DIR"] = str(place)


def _own() -> Path:
    """Return the folder that Triton would use."""
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    return Path(os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache"))
