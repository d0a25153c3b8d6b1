"""Turns: one thread at a time works with what is kept warm, pictures before sheets."""

import contextlib
import threading
from collections.abc import Iterator

from gpurender.runtime import threads

LOOK = 0.05  # seconds between two looks at whether the work of who waits is still wanted


class Turns:
    """A lock whose holder may be asked to let others go first: a sheet takes it for each of its parts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._before = 0  # threads that wait and go first

    @contextlib.contextmanager
    def taken(self, first: bool) -> Iterator[None]:
        """Hold the lock.

        Args:
            first: whether this thread goes before those that do not; a picture does.

        Raises:
            StoppedError: the work is not wanted any more.
        """
        with self._changed:
            self._before += first
            try:
                while self._taken or (self._before and not first):
                    self._changed.wait(LOOK)
                    threads.check_wanted()
                self._taken = True
            finally:
                self._before -= first
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
