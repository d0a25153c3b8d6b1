"""The files of a study: configs, results, leases, checkpoints, and how several processes write them.

    study.json            what the study is; never changed
    exhausted.json        how many configs the space has, if these are fewer than the study wants
    configs/KEY.json      a config and its number
    results/KEY.R.json    what rung R measured of a config: written once
    leases/KEY.R          who works on it
    checkpoints/KEY/R/    its training up to rung R
    work/KEY.R/           fine-tunings under way, removed when the result is written

Configs and results are complete or absent, and never changed. They appear by a link from a temporary file, which fails
where a file of the name is there. A second result of the same config and rung should be equal to the first, because
trainings are deterministic on a CPU: a difference is a warning in the log, and the first result stays.
"""

import contextlib
import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

from gpurender.util.atomic_files import REFUSALS, TEMPORARY, replacing

log = logging.getLogger("gpurender")

FOLDERS = ("configs", "results", "leases", "checkpoints", "work")
TIMES = "seconds"  # the entry of a result that may differ


class Folder:
    """The folder of a study; what was read of it is kept, because its files never change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, dict[str, Any]] = {}

    def make(self) -> None:
        """Make the folders that are missing."""
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def configs(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Return number, key and JSON values of every config, in the order of the numbers."""
        found = [(values["number"], name, values) for name, values in self._all("configs", ("number", "model"))]
        return sorted(found, key=lambda row: row[:2])

    def results(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return all results by key and rung."""
        found = {}
        for name, values in self._all("results", ("rung", "score")):
            key, _, rung = name.partition(".")
            found[key, int(rung)] = values
        return found

    def add_config(self, key: str, values: dict[str, Any]) -> None:
        """Add a config, unless it is there."""
        publish(self.root / "configs" / f"{key}.json", values)

    def add_result(self, key: str, rung: int, values: dict[str, Any]) -> None:
        """Add a result, unless there is one; warn if that one is different."""
        path = self.root / "results" / f"{key}.{rung}.json"
        if not publish(path, values) and _lasting(read(path)) != _lasting(values):
            log.warning(
                "%s holds other values than this worker measured, and stays: the training of this config is not the "
                "same on all workers (a GPU, other versions of packages, another processor)", path,
            )  # fmt: skip

    def lease(self, key: str, rung: int) -> Path:
        """Return the path of the lease of a config and rung."""
        return self.root / "leases" / f"{key}.{rung}"

    def checkpoints(self, key: str) -> Path:
        """Return the folder of the trainings of a config, one folder per rung."""
        return self.root / "checkpoints" / key

    def work(self, key: str, rung: int) -> Path:
        """Return the folder of the fine-tunings of a config and rung."""
        return self.root / "work" / f"{key}.{rung}"

    def _all(self, kind: str, wanted: tuple[str, ...]) -> list[tuple[str, dict[str, Any]]]:
        """Return name and values of every file of a kind; each is read once."""
        try:
            names = sorted(os.listdir(self.root / kind))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            if not name.endswith(".json") or name.startswith(TEMPORARY):
                continue
            place = f"{kind}/{name}"
            if place not in self._read:
                self._read[place] = read(self.root / place, wanted)
            found.append((name.removesuffix(".json"), self._read[place]))
        return found


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
        raise ValueError(f"{path} is damaged ({error}): remove it, and it is made again") from None
    return values


def publish(path: Path, values: dict[str, Any]) -> bool:
    """Write a JSON file that does not exist yet; return whether this call did.

    Raises:
        OSError: the file cannot be written.
    """
    if path.exists():
        return False
    temporary = path.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
    try:
        temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {*REFUSALS, errno.EMLINK}:
            raise OSError(error.errno, error.strerror, str(path)) from None
        with replacing(path) as other:  # a file system without hard links: two publishers write equal bytes
            Path(other).write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return True


def _lasting(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a result that must be equal wherever it is measured."""
    return {name: value for name, value in json.loads(json.dumps(values)).items() if name != TIMES}
