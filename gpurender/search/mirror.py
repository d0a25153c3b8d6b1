"""Mirror: the copy on this machine of a study that lies at an address.

An object store has whole objects by name, and neither links nor the times of leases. So one process alone hands out the
jobs of such a study and writes its configs, results and leases: the dispatcher (:mod:`gpurender.search.dispatcher`). It
works on a copy, and brings each change to the address before it answers. A worker brings the checkpoints of its job
here, and back while it trains; readers bring configs and results.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpurender.search.desk import EXHAUSTED
from gpurender.search.folder import STUDY
from gpurender.search.store import Store
from gpurender.training.loop import STATE
from gpurender.util import disk_cache
from gpurender.util.atomic_files import TEMPORARY, replacing
from gpurender.util.folder_lock import alone, turn

TOP = (STUDY, EXHAUSTED)
LASTING = ("configs", "results")  # folders whose files never change
LEASES = "leases"
CHECKPOINTS = "checkpoints"


def cache_folder(address: str) -> Path:
    """Return the folder in which readers keep the configs and results of an address."""
    return disk_cache.root() / "studies" / hashlib.sha256(address.encode()).hexdigest()[:16]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Yield an empty folder for this process, which is removed after the block.

    The folders of processes that were killed are removed before: checkpoints may be gigabytes.
    """
    parent = Path(tempfile.gettempdir()) / f"gpurender-studies-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    what = "another process works"
    with contextlib.ExitStack() as held:
        with turn(parent):
            for other in parent.iterdir():
                with contextlib.suppress(RuntimeError):  # its process lives
                    if other.is_dir():
                        with alone(other, what):
                            shutil.rmtree(other, ignore_errors=True)
            folder = parent / os.urandom(8).hex()
            folder.mkdir()
            held.enter_context(alone(folder, what))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Mirror:
    """A copy of a study.

    Args:
        address: of the study, as fsspec takes it.
        root: the folder of the copy; it is made.

    Raises:
        ValueError, RuntimeError: as :class:`gpurender.search.store.Store` does.
    """

    def __init__(self, address: str, root: Path) -> None:
        self.store, self.root = Store(address), root
        self._there: dict[str, Any] = {}  # the marks of the files that are at the address, by their path in the study
        self._turn = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """Where the study lies."""
        return self.store.address

    def fetch(self, *folders: str) -> None:
        """Bring ``study.json`` and the files of folders here; what is gone at the address is removed here.

        Raises:
            OSError: the address does not answer, or the disk is full.
        """
        with self._turn:
            top = [name for name in TOP if name in self.store.files()]
            if STUDY not in top or self._is_other():
                _empty(self.root)  # another study has the address now, or none
                self._there = {}
            self._bring(top)
            for folder in folders:
                found = self.store.files(folder)
                for path in set(_files(self.root, folder)) - found.keys():
                    (self.root / path).unlink(missing_ok=True)
                    self._there.pop(path, None)
                self._bring([name for name, size in found.items() if not self._has(folder, name, size)])

    def push(self, *folders: str) -> None:
        """Bring what was made, changed or removed here, at the top and in folders, to the address.

        Raises:
            OSError: the address does not answer; what was not brought is brought by the next call.
        """
        with self._turn:
            for folder in ("", *folders):
                here = _files(self.root, folder)
                for name in here:
                    if not (name in self._there and folder in LASTING):
                        self._send(name)
                present = set(here)
                for name in [one for one in self._there if _is_in(one, folder) and one not in present]:
                    self.store.remove(name)
                    del self._there[name]

    def create(self) -> None:
        """Bring ``study.json`` to the address, unless there is one; then that one is brought here."""
        self.store.create(STUDY, (self.root / STUDY).read_bytes())
        self.fetch()

    def remove_states(self, key: str = "") -> None:
        """Remove the states of the trainings of a config, or of all, at the address; the checkpoints stay."""
        for name in self.store.files(f"{CHECKPOINTS}/{key}".rstrip("/")):
            if name.endswith(f"/{STATE}"):
                self.store.remove(name)

    def discard(self, folder: str) -> None:
        """Remove a folder here, and not at the address."""
        with self._turn:
            shutil.rmtree(self.root / folder, ignore_errors=True)
            self._there = {name: mark for name, mark in self._there.items() if not _is_in(name, folder)}

    def _is_other(self) -> bool:
        path = self.root / STUDY
        return path.exists() and self.store.read([STUDY]).get(STUDY) != path.read_bytes()

    def _has(self, folder: str, name: str, size: int) -> bool:
        """Return whether a file that never changes is here, whole."""
        path = self.root / name
        return folder in LASTING and path.exists() and path.stat().st_size == size

    def _bring(self, names: list[str]) -> None:
        for name, data in self.store.read([one for one in names if not one.startswith(CHECKPOINTS)]).items():
            with self._written(name) as temporary:
                temporary.write_bytes(data)
        for name in names:
            if name.startswith(CHECKPOINTS):
                with contextlib.suppress(FileNotFoundError), self._written(name) as temporary:  # it may just have gone
                    self.store.get(name, temporary)

    @contextlib.contextmanager
    def _written(self, name: str) -> Iterator[Path]:
        """Yield the temporary path of a file that is brought here."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield Path(temporary)
        self._there[name] = _mark(path)

    def _send(self, name: str) -> None:
        path = self.root / name
        with contextlib.suppress(FileNotFoundError):  # it has just been removed here
            mark = _mark(path)
            if self._there.get(name) != mark:
                self.store.put(path, name)
                self._there[name] = mark


def _files(root: Path, folder: str) -> list[str]:
    """Return the paths, relative to a study, of the finished files of a folder; of the top, those of :data:`TOP`.

    States come before the journals and checkpoints of their trainings: a journal may be longer than its state.
    """
    if not folder:
        return [name for name in TOP if (root / name).exists()]
    if folder in (*LASTING, LEASES):
        names = os.listdir(root / folder) if (root / folder).is_dir() else []
        return [f"{folder}/{name}" for name in names if not name.startswith((TEMPORARY, "."))]
    paths = [path for path in (root / folder).rglob("*") if path.is_file() and not path.name.startswith(".")]
    return sorted((path.relative_to(root).as_posix() for path in paths), reverse=True)


def _is_in(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/") if folder else name in TOP


def _mark(path: Path) -> Any:
    """Return what tells a file from a later one; a lease that was touched stays the same."""
    if path.parent.name == LEASES:
        return path.read_bytes()
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _empty(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
