"""Forks: a process may fork at any moment, and the child can render.

A fork copies only the calling thread, but all locks. A lock that another thread held at that moment stays taken in the
child for ever. When images are rendered for the first time, two kinds of locks are held for long: the locks of the
modules that are being imported, and Numba's compiler lock. So the hooks of this module let a fork wait until no other
thread holds these locks. The wait lasts as long as an import or a compilation, tens of seconds if nothing is cached
yet, and no time after everything has been rendered once.

Modules of this package that are imported at first use are imported under :data:`IMPORTS`. An import may take the
compiler's lock (the first ``njit`` of a process does), so a compilation must not import under :data:`IMPORTS`.
"""

import os
import sys
import threading
from typing import Any

IMPORTS = threading.RLock()  # held while this package imports modules that render on a CPU

_held: list[Any] = []  # compiler locks of the forks in progress: one, or more for a fork within the hooks of a fork


def _compiler_lock() -> Any:
    """Return Numba's compiler lock, or ``None`` if Numba has not been imported."""
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
            IMPORTS.release()  # another thread has meanwhile imported Numba, and may already compile
        if compiler is not None:
            compiler.release()
        with IMPORTS:  # wait without the compiler's lock, which the import may need
            pass


def _after() -> None:
    """Release the locks, in the parent and in the child: in both, the thread that forked is the one that took them."""
    if not _held:  # Ctrl-C came while the fork waited
        return
    compiler = _held.pop()
    IMPORTS.release()
    if compiler is not None:
        compiler.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
