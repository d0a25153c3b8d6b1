"""The progress of an export in images, which errors and Ctrl-C report."""

import contextlib
from collections.abc import Callable, Iterator


class Tally:
    """The progress of an export, in images."""

    def __init__(self, total: int) -> None:
        self.total, self.written, self.present = total, 0, 0

    def note(self) -> str:
        return f"{self.written + self.present} of {self.total} images are there; the same command goes on from them"


@contextlib.contextmanager
def noting(note: Callable[[], str]) -> Iterator[None]:
    """Add a note to an error or Ctrl-C in the block (``__notes__``, which tracebacks show)."""
    try:
        yield
    except (OSError, KeyboardInterrupt) as error:
        vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), note()]  # as add_note of Python 3.11 does
        raise
