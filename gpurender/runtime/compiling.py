"""Saying that kernels are being compiled: one line, once a process, and a bar on a terminal where it takes long."""

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
    """Say that kernels are compiled now, as a warning, which is seen also where logging is not set up; in a process of
    multiprocessing, such as a worker of torch's loader, as information.

    Args:
        place: the folder in which they are to be kept; whether they can be is part of what is said.
    """
    level = logging.WARNING if multiprocessing.parent_process() is None else logging.INFO  # not in each of 64 workers
    if kernel_cache.writable(place):
        log.log(level, "gpurender: compiling kernels for this machine, once (up to a minute)...")
        return
    where = "there is no folder to keep them" if place is None else f"{place} cannot be written"
    told = "gpurender: compiling kernels (up to a minute), in every process: %s; GPURENDER_CACHE_DIR can name a folder"
    log.log(level, told, where)


class _Compilation:
    """The bar of the kernels that Numba compiles: there while it compiles, gone when it has.

    A kernel compiles those that it calls. Numba compiles under a lock of the process, so there is one nest at a time.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._done = 0
        self._spent = 0.0
        self._began = 0.0
        self._bar: Any = None

    def start(self) -> None:
        """Begin with a kernel."""
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
        """End with a kernel, compiled or not."""
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
    """Say so whenever Numba compiles a kernel of this package, from now on."""
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
