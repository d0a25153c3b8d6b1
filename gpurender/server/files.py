"""The files of a server: experts with a digest, lists of images."""

import json
from pathlib import Path, PurePosixPath

from gpurender.util import checks
from gpurender.util.file_hash import sha256_of


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


def read_files(text: bytes, where: str) -> list[tuple[str, int]]:
    """Return path and bytes of the images of a part, from its JSON.

    Raises:
        ValueError: it is damaged, or a path leads out of the image folder.
    """
    try:
        found = [(name, checks.integer("bytes", size, 0, 2**60)) for name, size in json.loads(text)]
        for name, _ in found:
            if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or ".." in name.split("/"):
                raise ValueError(f"{checks.shown(name)} is no path in the image folder")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"server: {where!r} is damaged: {' '.join(str(error).split())}") from None
    return found
