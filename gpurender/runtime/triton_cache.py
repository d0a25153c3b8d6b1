"""Where Triton keeps what it compiles.

Triton's cache is named by hashes of sources and compiler, as ours is, and lies in ``$TRITON_CACHE_DIR``, by default
``~/.triton/cache``. The setting holds for a whole process, other libraries' kernels included, and Triton has none for
some kernels only. So its folder is left alone where it can be written. Where it cannot, every kernel that is not in it
yet would end in an error.
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
    """Lead Triton to a folder that can be written, where its own cannot be; what is in its own is used all the same."""
    own = _own()
    if own.is_absolute() and kernel_cache.writable(own):
        return
    try:
        place = kernel_cache.writable_folder("triton")
    except OSError as error:
        log.info("Triton has no folder that can be written: %s", error)
        return
    with contextlib.suppress(OSError):  # there is none, or it cannot be read
        for kernel in own.iterdir():
            with contextlib.suppress(FileExistsError):  # another process links, too
                (place / kernel.name).symlink_to(kernel.resolve())
    log.info("Triton keeps its kernels in %s, as %s cannot be written", place, own)
    os.environ["TRITON_CACHE_DIR"] = str(place)


def _own() -> Path:
    """Return the folder of Triton's choice."""
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    return Path(os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache"))
