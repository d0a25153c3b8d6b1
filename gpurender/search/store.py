"""Store: the objects of a study at an address of fsspec, such as ``s3://bucket/study``, by their paths in the study."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpurender.util import checks
from gpurender.util.atomic_files import DISK, TEMPORARY

MANY = 500  # objects that are asked for at once
PATTERNS = "*?[]"  # characters that fsspec takes for patterns
RENAMING = {"file", "local", "sftp", "ssh", "hdfs"}  # file systems on which a file appears before it is whole


def is_address(place: Any) -> bool:
    """Return whether a study's place is an address for fsspec, such as ``"s3://bucket/study"``, and no path."""
    return isinstance(place, str) and "://" in place


class Store:
    """Objects under an address.

    Args:
        address: as fsspec takes it.

    Raises:
        ValueError: it names no place, or fsspec knows no such protocol.
        RuntimeError: a package is missing.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        if not address.partition("://")[2].strip("/") or any(mark in address for mark in PATTERNS):
            raise ValueError(
                f"study: an address must name a place without {' '.join(PATTERNS)}, such as 's3://bucket/study', got "
                f"{checks.shown(address)}"
            )
        self._system, self._place = _opened(self.address)
        protocol = self._system.protocol
        self._renames = bool(RENAMING & ({protocol} if isinstance(protocol, str) else set(protocol)))

    def files(self, folder: str = "") -> dict[str, int]:
        """Return the paths of all objects of a folder with their bytes; of the top, without its folders."""
        with self._explained():
            self._system.invalidate_cache()
            try:
                if folder:
                    found = self._system.find(f"{self._place}/{folder}", detail=True)
                else:
                    listed = self._system.ls(self._place, detail=True)
                    found = {one["name"]: one for one in listed if one["type"] == "file"}
            except FileNotFoundError:
                return {}
        names = {self._relative(path): one["size"] for path, one in found.items()}
        return {name: size for name, size in names.items() if _is_finished(name)}

    def is_empty(self) -> bool:
        """Return whether there is nothing at the address."""
        with self._explained():
            self._system.invalidate_cache()
            try:
                return not self._system.ls(self._place)
            except FileNotFoundError:
                return True

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the bytes of those objects that are still there."""
        found: dict[str, bytes] = {}
        with self._explained():
            for begin in range(0, len(names), MANY):
                asked = [f"{self._place}/{name}" for name in names[begin : begin + MANY]]
                for path, data in self._system.cat(asked, on_error="return").items():
                    if isinstance(data, bytes):
                        found[self._relative(path)] = data
                    elif not isinstance(data, FileNotFoundError):
                        raise data
        return found

    def get(self, name: str, path: Path) -> None:
        """Write an object to a file.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._explained():
            self._system.get_file(f"{self._place}/{name}", str(path))

    def put(self, path: Path, name: str) -> None:
        """Make or replace an object by a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        target = f"{self._place}/{name}"
        with self._explained():
            self._make_folder(target)
            try:
                if self._renames:
                    folder, _, last = target.rpartition("/")
                    temporary = f"{folder}/{TEMPORARY}{os.urandom(8).hex()}-{last}"
                    self._system.put_file(str(path), temporary)
                    self._system.mv(temporary, target)
                else:
                    self._system.put_file(str(path), target)
            except FileNotFoundError as error:
                if path.exists():  # it is the address that is gone
                    raise RuntimeError(f"there is no place for {target}") from error
                raise

    def create(self, name: str, data: bytes) -> bool:
        """Make an object unless there is one; return whether this call did, as far as the store can tell."""
        target = f"{self._place}/{name}"
        with self._explained():
            self._make_folder(target)
            try:
                self._system.pipe_file(target, data, mode="create")
            except FileExistsError:
                return False
            except NotImplementedError:
                self._system.pipe_file(target, data)
        return True

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._place}/{name}")

    def _make_folder(self, target: str) -> None:
        self._system.makedirs(target.rpartition("/")[0], exist_ok=True)  # object stores have none, and do nothing

    def _relative(self, path: str) -> str:
        return path[path.index(self._place) + len(self._place) + 1 :]  # some systems put a slash before it

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise what a file system raises as an ``OSError`` that has the address.

        Full disks of this machine, missing objects, and mistakes of a program stay what they are.
        """
        try:
            yield
        except (FileNotFoundError, NameError, AttributeError, TypeError):
            raise
        except Exception as error:  # botocore, gcsfs and others have errors of their own
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            text = " ".join(str(error).split()) or type(error).__name__
            raise OSError(f"study: {self.address} cannot be reached: {text}") from error


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


def _is_finished(name: str) -> bool:
    """Return whether a path in a study is that of a whole file, and does not lead out of the study."""
    parts = name.split("/")
    return ".." not in parts and not parts[-1].startswith((TEMPORARY, "."))
