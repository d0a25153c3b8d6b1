"""Progress bars for work that may take more than a few seconds."""

import functools
import os
import threading
from typing import Any

from tqdm import tqdm


def progress(delay: float = 2, miniters: int = 1, hidden: bool = False, **options: Any) -> Any:
    """Return a tqdm bar on standard error that appears after ``delay`` seconds, and only on a terminal.

    ``miniters``: steps after which an update may be shown; 0 also shows updates without a step. ``hidden``: whether the
    bar never appears.
    """
    return _bar()(delay=delay, disable=True if hidden else None, miniters=miniters, **options)


@functools.cache
def _bar() -> Any:
    """Return a subclass of tqdm with a lock that belongs to this process alone.

    tqdm's own lock is shared by all processes that are forked after its first bar, and is taken even by a bar that is
    not shown: a process that is killed while it holds the lock would stop all the others.
    """

    class Bar(tqdm):
        monitor_interval = 0  # no monitor thread, which would watch hidden bars, too; every update reads the clock

    def renew() -> None:
        Bar.set_lock(threading.RLock())

    renew()
    os.register_at_fork(after_in_child=renew)
    return Bar
