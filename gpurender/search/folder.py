"""The files of a study: configs, results, leases, checkpoints, and how several processes write them.

    study.json            what the study is; never changed
    exhausted.json        how many configs the space has, if these are fewer than the study wants
    configs/KEY.json      a config and its number
    results/KEY.R.json    what rung R measured of a config: written once
    leases/KEY.R          who works on it
    checkpoints/KEY/R/    its training up to rung R
    work/KEY.R.X/         what an attempt measures with; each attempt has a folder of its own

Configs and results are complete or absent, and never changed. They are flushed to the disk and then appear by a link,
which fails where a file of the name is there. A second result of the same config and rung should be equal to the first,
because trainings are deterministic on a CPU: a difference is a warning in the log, and the first result stays.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from gpurender.search.config import Config
from gpurender.training.loop import STATE
from gpurender.util.atomic_files import REFUSALS, TEMPORARY, replacing

log = logging.getLogger("gpurender")

STUDY = "study.json"
FOLDERS = ("configs", "results", "leases", "checkpoints", "work")
TIMES = "seconds"  # the entry of a result that may differ


class Folder:
    """The folder of a study; what was read of it is kept, because its files never change.

    Args:
        root: of the study.
        rungs: how many there are.
        tasks: the names of the tasks that every result has.
    """

    def __init__(self, root: Path, rungs: int, tasks: Collection[str]) -> None:
        self.root = root
        self._rungs, self._tasks = rungs, tasks
        self._configs: dict[str, tuple[int, Config]] = {}
        self._results: dict[tuple[str, int], dict[str, Any]] = {}

    def make(self) -> None:
        """Make the folders that are missing."""
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def configs(self) -> dict[str, tuple[int, Config]]:
        """Return number and config by key, in the order of the numbers.

        Raises:
            ValueError: a file is damaged; the message has its name.
        """
        names = _names(self.root / "configs")
        for name in names - self._configs.keys():
            self._configs[name] = _config(self.root / "configs" / f"{name}.json")
        known = ((key, self._configs[key]) for key in names)
        return dict(sorted(known, key=lambda item: (item[1][0], item[0])))

    def results(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return all results by key and rung.

        Raises:
            ValueError: a file is damaged; the message has its name.
        """
        found = {}
        for name in _names(self.root / "results"):
            key, _, rung = name.partition(".")
            path = self.root / "results" / f"{name}.json"
            if not rung.isdecimal() or int(rung) >= self._rungs:
                raise ValueError(f"{path} is no result of this study: it has rungs 0 to {self._rungs - 1}")
            job = key, int(rung)
            if job not in self._results:
                self._results[job] = _result(path, int(rung), self._tasks)
            found[job] = self._results[job]
        return found

    def add_config(self, number: int, config: Config) -> None:
        """Add a config, unless it is there."""
        publish(self.root / "configs" / f"{config.key}.json", {"number": number, **json.loads(config.to_json())})

    def add_result(self, key: str, rung: int, values: dict[str, Any]) -> bool:
        """Add a result, unless there is one; warn if that one is different. Return whether it was added."""
        path = self.root / "results" / f"{key}.{rung}.json"
        if publish(path, values):
            return True
        if _lasting(read(path)) != _lasting(values):
            log.warning(
                "%s holds other values than this worker measured, and stays: the training of this config is not the "
                "same on all workers (a GPU, other versions of packages, another processor)", path,
            )  # fmt: skip
        return False

    def lease(self, key: str, rung: int) -> Path:
        """Return the path of the lease of a config and rung."""
        return self.root / "leases" / f"{key}.{rung}"

    def checkpoints(self, key: str) -> Path:
        """Return the folder of the trainings of a config, one folder per rung."""
        return self.root / "checkpoints" / key

    @contextlib.contextmanager
    def workroom(self, key: str, rung: int) -> Iterator[Path]:
        """Yield an empty folder for one attempt; it is removed, and so are those of attempts that were killed."""
        for earlier in (self.root / "work").glob(f"{key}.{rung}.*"):
            shutil.rmtree(earlier, ignore_errors=True)
        room = self.root / "work" / f"{key}.{rung}.{os.urandom(4).hex()}"
        room.mkdir()
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def remove_states(self, key: str = "*") -> None:
        """Remove the states of the trainings of a config, or of all, of which none goes on; the checkpoints stay."""
        for path in (self.root / "checkpoints").glob(f"{key}/*/{STATE}"):
            path.unlink(missing_ok=True)


def _names(folder: Path) -> set[str]:
    """Return the names of a folder's JSON files, without the ending."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return set()
    return {name[:-5] for name in names if name.endswith(".json") and not name.startswith(TEMPORARY)}


def _config(path: Path) -> tuple[int, Config]:
    values = read(path, ("number",))
    number = values.pop("number")
    try:
        config = Config.from_data(values)
        if not isinstance(number, int) or isinstance(number, bool) or not _is_numbers(config.choices):
            raise ValueError("number must be an integer, and choices an object of numbers")
        if config.key != path.stem:
            raise ValueError("its content has another key than its name")
    except (TypeError, ValueError) as error:
        raise damaged(path, error) from None
    return number, config


def _result(path: Path, rung: int, tasks: Collection[str]) -> dict[str, Any]:
    values = read(path, ("rung", "score"))
    score, figures, seconds = values["score"], values.get("tasks", {}), values.get(TIMES, {})
    try:
        if values["rung"] != rung:
            raise ValueError("its rung is another one than that of its name")
        if not isinstance(figures, dict) or not _is_numbers(seconds):
            raise ValueError("tasks must be an object, and seconds one of numbers")
        if score is None:
            if not isinstance(values.get("error"), str):
                raise ValueError("it has neither a score nor an error")
            return values
        if not _is_finite(score):
            raise ValueError("score must be a number")
        for name in tasks:
            own = figures.get(name)
            if not isinstance(own, dict) or not all(_is_finite(own.get(entry)) for entry in ("score", "accuracy")):
                raise ValueError(f"the task {name!r} must have score and accuracy")
            if not _is_numbers({entry: value for entry, value in own.items() if entry != "finetuned"}):
                raise ValueError(f"the figures of the task {name!r} must be numbers")
    except ValueError as error:
        raise damaged(path, error) from None
    return values


def _is_numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(map(_is_finite, values.values()))


def _is_finite(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max  # an integer may be larger than any float


def damaged(path: Path, error: Exception) -> ValueError:
    """Return the error that names a damaged file of a study."""
    advice = "only a copy of it can replace it" if path.name == STUDY else "remove it, and it is made again"
    return ValueError(f"{path} is damaged ({' '.join(str(error).split())}): {advice}")


def read(path: Path, wanted: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON object of a file.

    Raises:
        ValueError: the file is damaged: it is no JSON object, or an entry is missing.
    """
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        for name in wanted:
            if name not in values:
                raise ValueError(f"the entry {name!r} is missing")
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    return values


def publish(path: Path, values: dict[str, Any]) -> bool:
    """Write a JSON file that does not exist yet; return whether this call did.

    Raises:
        OSError: the file cannot be written.
    """
    if path.exists():
        return False
    data = (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()
    temporary = path.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {*REFUSALS, errno.EMLINK} or not temporary.exists():
            raise OSError(error.errno, error.strerror, str(path)) from None
        with replacing(path, durable=True) as other:  # no hard links here: two publishers write equal bytes
            Path(other).write_bytes(data)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return True


def _lasting(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a result that must be equal wherever it is measured."""
    return {name: value for name, value in json.loads(json.dumps(values)).items() if name != TIMES}
