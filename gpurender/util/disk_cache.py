"""Results of searches, kept on disk: lists of integers under the user's cache directory, one file per key.

A file is written under a temporary name and renamed, so a reader sees all of it or none. A file without a valid
checksum is treated as absent and made again. A directory that cannot be written costs time, never correctness.
"""

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

from gpurender.util import atomic_files

log = logging.getLogger("gpurender")


def directory() -> Path | None:
    """Return the folder of all caches: ``$GPURENDER_CACHE_DIR``, else ``$XDG_CACHE_HOME/gpurender``, else
    ``~/.cache/gpurender``; ``None`` for a user without a home.

    A variable that is not an absolute path is ignored, as the XDG specification requires: jobs of one user start in
    many folders.
    """
    own = os.environ.get("GPURENDER_CACHE_DIR", "")
    if os.path.isabs(own):
        return Path(own)
    root = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(root):
        root = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "gpurender" if os.path.isabs(root) else None


def root() -> Path:
    """Return the folder of :func:`directory`, or, for a user without a home, one among the temporary files."""
    return directory() or Path(tempfile.gettempdir()) / f"gpurender-{os.getuid()}"


def load(kind: str, key: str) -> list[int] | None:
    """Return the integers saved under a kind and a key, or ``None`` if there are none or the file is damaged."""
    path = _path(kind, key)
    if path is None:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        values = data["values"]
        if data["sha256"] == _checksum(kind, key, values) and all(type(value) is int for value in values):
            return values
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def save(kind: str, key: str, values: list[int]) -> None:
    """Save integers under a kind and a key, atomically; a failure is logged and otherwise ignored."""
    path = _path(kind, key)
    if path is None:
        return
    text = json.dumps({"sha256": _checksum(kind, key, values), "values": values})
    if error := atomic_files.keep(path, text.encode()):
        log.info("search result not cached: %s", error)


def _path(kind: str, key: str) -> Path | None:
    folder = directory()
    return None if folder is None else folder / f"{kind}-{key}.json"


def _checksum(kind: str, key: str, values: list[int]) -> str:
    return hashlib.sha256(json.dumps([kind, key, values]).encode()).hexdigest()
