"""The files of a server: experts with a digest, lists of images."""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpurender.util import checks
from gpurender.util.file_hash import sha256_of

MAX_BYTES = 2**60  # of a file


def digest(path: Path) -> tuple[str, int]:
    """Return SHA-256, as 64 hex digits, and the size of a file in bytes."""
    return sha256_of(path), path.stat().st_size


def checked(path: Path, sha256: str, size: int) -> Path:
    """Return the path of a file that has this digest and size.

    Raises:
        ValueError: it has another one, or is not there.
    """
    try:
        found = digest(path)
    except OSError as error:
        raise ValueError(f"server: {str(path)!r} cannot be read: {error.strerror}") from None
    if found != (sha256, size):
        raise ValueError(
            f"server: {str(path)!r} is not the expert of the catalogue: it has {found[1]} bytes and SHA-256 "
            f"{found[0][:12]}…, not {size} and {sha256[:12]}…"
        )
    return path


@dataclass(frozen=True, eq=False)
class FileList:
    """The images of a part of an image folder.

    Attributes:
        names: paths in the folder.
        sizes: in bytes, int64 ``[N]``.
    """

    names: tuple[str, ...]
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def addresses(self) -> np.ndarray:
        """The first eight bytes of the SHA-256 of each path, uint64 ``[N]``: they do not depend on the order."""
        encoded = (name.encode("utf-8", "surrogateescape") for name in self.names)
        return np.array([int.from_bytes(hashlib.sha256(one).digest()[:8], "little") for one in encoded], np.uint64)

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> "FileList":
        """Return the list of rows of path and bytes.

        Raises:
            TypeError, ValueError: a row is not a path and a size, or a path leads out of the image folder.
        """
        names = tuple(name for name, _ in rows)
        sizes = [size for _, size in rows]
        for name in names:
            if not isinstance(name, str) or not name or name[0] == "/" or ".." in name.split("/"):
                raise ValueError(f"{checks.shown(name)} is no path in the image folder")
        for size in (size for size in sizes if type(size) is not int or not 0 <= size <= MAX_BYTES):
            checks.integer("bytes", size, 0, MAX_BYTES)  # which says what is wrong
        return cls(names, np.array(sizes, np.int64))


def read_files(text: bytes, where: str) -> FileList:
    """Return the images of a part, from its JSON: a list of rows of path and bytes.

    Raises:
        ValueError: it is damaged, or a path leads out of the image folder.
    """
    try:
        return FileList.of(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"server: {where!r} is damaged: {' '.join(str(error).split())}") from None
