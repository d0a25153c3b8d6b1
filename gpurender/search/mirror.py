"""Mirror: the copy on this machine of a study that lies on an object store, or wherever fsspec reaches.

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

from gpurender.search.folder import STUDY
from gpurender.training.loop import STATE
from gpurender.util import checks, disk_cache
from gpurender.util.atomic_files import TEMPORARY, replacing
from gpurender.util.folder_lock import LOCK

LASTING = ("configs", "results")  # folders whose files never change
LEASES = "leases"
MANY = 500  # files that are asked for at once


def is_address(place: Any) -> bool:
    """Return whether a study's place is an address for fsspec, such as ``"s3://bucket/study"``, and no path."""
    return isinstance(place, str) and "://" in place


def cache_folder(address: str) -> Path:
    """Return the folder in which readers keep the configs and results of an address."""
    root = disk_cache.directory() or Path(tempfile.gettempdir()) / f"gpurender-{os.getuid()}"
    return root / "studies" / hashlib.sha256(address.encode()).hexdigest()[:16]


class Mirror:
    """A copy of a study.

    Args:
        address: of the study, as fsspec takes it.
        root: the folder of the copy; it is made.

    Raises:
        ValueError: fsspec knows no such protocol.
        RuntimeError: the package of the protocol is missing.
    """

    def __init__(self, address: str, root: Path) -> None:
        self.address, self.root = address.rstrip("/"), root
        self._system, self._place = _opened(self.address)
        self._there: dict[str, Any] = {}  # the marks of the files that are at the address, by their path in the study
        self._turn = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def fetch(self, *folders: str) -> None:
        """Bring ``study.json`` and the files of folders here; what is gone at the address is removed here.

        Raises:
            OSError: the address does not answer.
        """
        with self._turn, self._explained():
            self._system.invalidate_cache()
            names = [name for name in self._names("") if "/" not in name]
            if STUDY not in names or self._is_other():
                _empty(self.root)  # another study has the address now, or none
                self._there = {}
            self._bring([name for name in names if name.endswith(".json") and not name.startswith(TEMPORARY)])
            for folder in folders:
                found = self._names(folder)
                for path in set(_files(self.root, folder)) - set(found):
                    (self.root / path).unlink(missing_ok=True)
                    self._there.pop(path, None)
                known = folder in LASTING
                self._bring([name for name in found if not (known and (self.root / name).exists())])

    def push(self, *folders: str) -> None:
        """Bring what was made, changed or removed here, at the top and in folders, to the address.

        Raises:
            OSError: the address does not answer; what was not brought is brought by the next call.
        """
        with self._turn, self._explained():
            for folder in ("", *folders):
                here = _files(self.root, folder)
                for name in here:
                    with contextlib.suppress(FileNotFoundError):  # it has just been removed
                        self._send(name)
                for name in [one for one in self._there if _is_in(one, folder) and one not in here]:
                    self._remove(name)

    def remove_states(self, key: str = "") -> None:
        """Remove the states of the trainings of a config, or of all, at the address; the checkpoints stay."""
        with self._turn, self._explained():
            for name in self._names(f"checkpoints/{key}".rstrip("/")):
                if name.endswith(f"/{STATE}"):
                    self._remove(name)

    def discard(self, folder: str) -> None:
        """Remove a folder here, and not at the address."""
        with self._turn:
            shutil.rmtree(self.root / folder, ignore_errors=True)
            self._there = {name: mark for name, mark in self._there.items() if not _is_in(name, folder)}

    def is_empty(self) -> bool:
        """Return whether there is nothing at the address."""
        with self._turn, self._explained():
            try:
                return not self._system.ls(self._place)
            except FileNotFoundError:
                return True

    # ------------------------------------------------------------------------------------------------------ one by one

    def _names(self, folder: str) -> list[str]:
        """Return the paths in the study of all files of a folder at the address; of the top, without its folders."""
        try:
            if folder:
                paths = self._system.find(f"{self._place}/{folder}")
            else:
                paths = [one["name"] for one in self._system.ls(self._place, detail=True) if one["type"] == "file"]
        except FileNotFoundError:
            return []
        return [self._relative(path) for path in paths]

    def _relative(self, path: str) -> str:
        return path[path.index(self._place) + len(self._place) + 1 :]  # some systems put a slash before it

    def _is_other(self) -> bool:
        path = self.root / STUDY
        return path.exists() and self._system.cat_file(f"{self._place}/{STUDY}") != path.read_bytes()

    def _bring(self, names: list[str]) -> None:
        small = [name for name in names if not name.startswith("checkpoints/")]
        for begin in range(0, len(small), MANY):
            found = self._system.cat([f"{self._place}/{name}" for name in small[begin : begin + MANY]])
            for path, data in found.items():
                with self._written(self._relative(path)) as temporary:
                    temporary.write_bytes(data)
        for name in names:
            if name.startswith("checkpoints/"):
                with self._written(name) as temporary:
                    self._system.get_file(f"{self._place}/{name}", str(temporary))

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
        mark = _mark(path)
        if self._there.get(name) != mark:
            target = f"{self._place}/{name}"
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)  # object stores have no folders
            self._system.put_file(str(path), target)
            self._there[name] = mark

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._place}/{name}")
        self._there.pop(name, None)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what a file system raises as an ``OSError`` that has the address."""
        try:
            yield
        except Exception as error:  # botocore, gcsfs and others have errors of their own
            if isinstance(error, OSError) and error.errno is not None and error.filename == str(self.root):
                raise
            raise OSError(f"study: {self.address} cannot be reached: {' '.join(str(error).split())}") from error


def _opened(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path there."""
    try:
        import fsspec
    except ImportError as error:
        raise RuntimeError(f"study: an address needs fsspec: pip install fsspec ({error})") from None
    try:
        system, place = fsspec.core.url_to_fs(address)
    except ImportError as error:  # the text names the package
        raise RuntimeError(f"study: {address} needs a package: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"study: {checks.shown(address)} is no address that fsspec knows: {error}") from None
    return system, place.rstrip("/")


def _files(root: Path, folder: str) -> list[str]:
    """Return the paths, relative to a study, of the finished files of a folder (the top: without subfolders).

    States come before the journals and checkpoints of their trainings: a journal may be longer than its state.
    """
    start = root / folder
    paths = start.rglob("*") if folder else start.iterdir() if start.is_dir() else ()
    names = [path.relative_to(root).as_posix() for path in paths if _is_finished(path)]
    return sorted(names, reverse=True)


def _is_finished(path: Path) -> bool:
    return path.is_file() and not path.name.startswith((TEMPORARY, LOCK, "."))


def _is_in(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/") if folder else "/" not in name


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
