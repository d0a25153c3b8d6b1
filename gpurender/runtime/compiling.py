"""Messages about kernel compilation: one log line per process, and a bar on a terminal if compiling takes long."""

import contextlib
import functools
import logging
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

from gpurender.runtime import kernel_cache
from gpurender.util.progress import progress

log = logging.getLogger("gpurender")

DELAY = 2.0  # seconds of compiling before the bar appears


@functools.cache
def announce(place: Path | None) -> None:
    """Log that kernels are being compiled, as a warning, which is visible even without logging set up; in a process of
    multiprocessing, such as a worker of torch's loader, as information.

    Args:
        place: the folder in which the kernels are to be kept; the message says whether they can be kept there.
    """
    level = logging.WARNING if multiprocessing.parent_process() is None else logging.INFO  # not in each of 64 workers
    if kernel_cache.writable(place):
        log.log(level, "gpurender: compiling the kernels that this needs, once on this machine (up to a minute)...")
        return
    where = "there is no folder to keep them" if place is None else f"{place} cannot be written"
    told = "gpurender: compiling kernels (up to a minute), in every process: %s; GPURENDER_CACHE_DIR can name a folder"
    log.log(level, told, where)


class _Compilation:
    """The bar of the kernels that Numba compiles, shown only while Numba compiles.

    Compiling a kernel compiles the kernels that it calls. Numba compiles under a lock of the process, so there is one
    nest at a time.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._done = 0
        self._spent = 0.0
        self._began = 0.0
        self._bar: Any = None

    def start(self) -> None:
        """Count the start of a kernel's compilation; the outermost one opens the bar on a terminal."""
        self._depth += 1
        if self._depth > 1:
            return
        self._began = time.monotonic()
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = progress(
                delay=max(0.0, DELAY - self._spent), desc="compiling", initial=self._done, leave=False,
                bar_format="{desc}: {n_fmt} kernels", mininterval=0,
            )  # fmt: skip

    def end(self) -> None:
        """Count the end of a kernel's compilation, successful or not; the outermost one closes the bar."""
        self._depth -= 1
        self._done += 1
        bar = self._bar
        if bar is not None:
            bar.update()
        if self._depth == 0:
            self._spent += time.monotonic() - self._began
            self._bar = None
            if bar is not None:
                bar.close()


@functools.cache
def watch_numba() -> None:
    """Register a listener that announces every compilation of a kernel of this package by Numba."""
    from numba.core import event

    class Watch(event.Listener):
        def __init__(self) -> None:
            self.compilation = _Compilation()

        def on_start(self, event: Any) -> None:
            if ours(event):
                announce(kernel_cache.numba_folder())
                with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
                    self.compilation.start()

        def on_end(self, event: Any) -> None:
            if ours(event):
                with contextlib.suppress(OSError, ValueError):
                    self.compilation.end()

    def ours(event: Any) -> bool:
        function = getattr((event.data or {}).get("dispatcher"), "py_func", None)
        return str(getattr(function, "__module__", "")).startswith("gpurender.")

    watch = Watch()
    os.register_at_fork(after_in_child=lambda: setattr(watch, "compilation", _Compilation()))
    event.register("numba:compile", watch)
