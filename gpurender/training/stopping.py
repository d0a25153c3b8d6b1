"""SIGTERM and SIGINT end a training between two steps, after its checkpoint is written."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

NUMBERS: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT)  # Slurm's and a terminal's


class Interrupted(KeyboardInterrupt):
    """A training was asked to end, and its checkpoint is written; the attribute ``number`` is the signal's."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__()
        self.number = number
        self.__notes__ = [where]  # add_note came with Python 3.11


class Request:
    """Whether a signal has asked for the end. A second signal ends the process as it would without this class."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def watched(self) -> Iterator["Request"]:
        """Watch the signals while the block lasts; without effect outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        for number in NUMBERS:
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup
                self._before[number] = signal.signal(number, self._note)
        try:
            yield self
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.number = number
        signal.signal(number, self._before[number])
