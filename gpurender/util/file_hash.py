"""The SHA-256 of a file, read in blocks: Python 3.10 has no ``hashlib.file_digest``."""

import hashlib
from pathlib import Path

BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
