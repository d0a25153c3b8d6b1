"""Forks: a process may fork at any moment, and the child draws.

A fork copies the thread that calls it and no other, but it copies all locks. A lock that another thread held at that
moment stays taken in the child for ever. Where images are drawn for the first time, two kinds of locks are held for
long: those of the modules that are being imported, and Numba's compiler lock. So a fork waits here until no other
thread holds them. That takes as long as an import or a compilation takes, tens of seconds where nothing is cached yet,
and no time once everything has been drawn once.

Modules of ours that are imported when they are first used are imported under :data:`IMPORTS`. An import may take the
compiler's lock (the first ``njit`` of a process does), so a compilation must not import under :data:`IMPORTS`.
"""

import os
import sys
import threading
from typing import Any

IMPORTS = threading.RLock()  # held where a function of ours imports what draws on a CPU

_held: list[Any] = []  # the compiler locks of the forks under way: of one, or of a fork within a fork's own hooks


def _compiler_lock() -> Any:
    """Numba's lock, or ``None`` where Numba has not been imported."""
    return getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)


def _before() -> None:
    while True:
        compiler = _compiler_lock()
        if compiler is not None:
            compiler.acquire()
        if IMPORTS.acquire(blocking=False):
            if compiler is _compiler_lock():
                _held.append(compiler)
                return
            IMPORTS.release()  # another thread has imported Numba meanwhile, and may compile already
        if compiler is not None:
            compiler.release()
        with IMPORTS:  # waited for without the compiler's lock, which the import may want
            pass


def _after() -> None:
    """Let go, in the parent and in the child, where the thread that has forked is the one that took the locks."""
    if not _held:  # Ctrl-C came while the fork waited
        return
    compiler = _held.pop()
    IMPORTS.release()
    if compiler is not None:
        compiler.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
