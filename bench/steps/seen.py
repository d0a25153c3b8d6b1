"""What a step of the acceptance run has seen so far: its place in the result file, replaced after every row."""

import json
import time
from pathlib import Path
from typing import Any, TypeVar

from gpurender.util.atomic_files import replacing

T = TypeVar("T")
SIZES = ("tiny", "short", "long")  # of a rehearsal on a CPU, of minutes, of a machine of one's own


class NotInstalledError(Exception):
    """A tool that a step needs is not there: the step is left out, which is no failure."""


class CutError(Exception):
    """A step ended its work before its limit, to save what it had seen, with some of it undone."""


class Seen:
    """What one step has seen.

    Args:
        file: the result of the whole run; ``None`` keeps it in memory.
        step: the name under which it stands there.
        size: how much is to be measured, of :data:`SIZES`.
        seconds: then the step is killed, so it had better end before.
        device: to measure, ``"cuda"`` or in a rehearsal ``"cpu"``.
    """

    def __init__(
        self, file: Path | None = None, step: str = "", *, size: str = "tiny", seconds: float = 3600.0,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self.file, self.step, self.size, self.device = file, step, size, device
        self.found: dict[str, Any] = {}
        self._end = time.monotonic() + seconds

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return self.found.get("rows", [])

    def row(self, row: dict[str, Any]) -> None:
        """Add a row, write the file and print the row."""
        self.note(rows=[*self.rows, row])
        print(json.dumps(row), flush=True)

    def note(self, **values: Any) -> None:
        """Set fields beside the rows and write the file.

        Raises:
            TypeError, ValueError: one that JSON cannot say, such as NaN; then nothing is changed.
        """
        json.dumps(values, allow_nan=False)
        self.found.update(values)
        if self.file is not None:
            update(self.file, self.step, self.found)

    def left(self) -> float:
        """Seconds until the step is killed."""
        return self._end - time.monotonic()

    def enough(self, seconds: float, what: str) -> bool:
        """Whether there are so many seconds left; if not, what is left out is noted."""
        if self.left() >= seconds:
            return True
        self.note(left_out=[*self.found.get("left_out", []), what])
        return False

    def pick(self, tiny: T, short: T, long: T) -> T:
        """The one of the step's size."""
        return (tiny, short, long)[SIZES.index(self.size)]


def read(file: Path) -> dict[str, Any]:
    """Return the result in a file."""
    return json.loads(file.read_text(encoding="utf-8"))


def update(file: Path, step: str, values: dict[str, Any]) -> None:
    """Set fields of a step in a result file. Whoever reads or is killed meanwhile finds the old file or the new one."""
    result = read(file)
    result["steps"].setdefault(step, {}).update(values)
    write(file, result)


def write(file: Path, result: dict[str, Any]) -> None:
    """Replace a result file."""
    with replacing(file) as temporary:
        Path(temporary).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
