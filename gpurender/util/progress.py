"""Progress bars of whatever may take more than a few seconds."""

import functools
import os
import threading
from typing import Any

from tqdm import tqdm


def progress(delay: float = 2, **options: Any) -> Any:
    """Return a tqdm bar on standard error that appears after ``delay`` seconds, and only on a terminal."""
    return _bar()(delay=delay, disable=None, miniters=1, **options)


@functools.cache
def _bar() -> Any:
    """tqdm with a lock of this process alone.

    tqdm's own is shared by all processes that are forked after its first bar, and taken even by a bar that is not
    shown: one of them that is killed while it holds the lock would stop all the others.
    """

    class Bar(tqdm):
        monitor_interval = 0  # no thread that looks after bars, hidden ones too; the clock is looked at in every update

    def renew() -> None:
        Bar.set_lock(threading.RLock())

    renew()
    os.register_at_fork(after_in_child=renew)
    return Bar
