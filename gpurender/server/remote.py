"""What a client fetches from a server by HTTP: the catalogue, experts, lists of files. Nothing of the client is sent.

An expert goes to a file of its own in the user's cache folder. A transfer that was cut off, or whose process was
killed, goes on with the bytes that are missing (a range request). The file appears under its name when its digest is
that of the catalogue.
"""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpurender.server.catalogue import CATALOGUE
from gpurender.server.files import checked, digest
from gpurender.util import checks, disk_cache
from gpurender.util.folder_lock import turn
from gpurender.util.progress import progress

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # of a transfer that is cut off, as long as each one brings something
BLOCK = 1 << 16
MAX_TEXT = 1 << 28  # bytes of a catalogue or a list: a million files are 60 MB
PART = ".part"


def cache_folder(address: str) -> Path:
    """Return the folder of what was fetched from an address.

    Raises:
        ValueError: the address is no http address.
    """
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"server must be a folder, or begin with http:// or https://, got {checks.shown(address)}")
    return disk_cache.root() / "servers" / hashlib.sha256(address.encode()).hexdigest()[:16]


def catalogue(address: str) -> bytes:
    """Return the text of a server's catalogue."""
    return text(f"{address}/{CATALOGUE}")


def text(url: str) -> bytes:
    """Return what is at an address.

    Raises:
        OSError: it does not answer, or not with a file.
        ValueError: the answer is longer than 256 MiB.
    """
    try:
        with _opened(url, {}) as answer:
            found = answer.read(MAX_TEXT + 1)
    except http.client.HTTPException as error:
        raise OSError(f"{url} was cut off: {error}") from None
    if len(found) > MAX_TEXT:
        raise ValueError(f"server: {url} is longer than {MAX_TEXT:,} bytes")
    return found


def fetched(url: str, path: Path, sha256: str, size: int) -> Path:
    """Return the path of a file with this digest, fetched if it is not there; processes take turns.

    Args:
        url: of the file.
        path: where it is kept; the folder is made.
        sha256, size: of the whole file.

    Raises:
        OSError: the server does not answer, or the disk is full.
        ValueError: the server has another file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with turn(path.parent):
        if path.is_file() and digest(path) == (sha256, size):
            return path
        part = path.with_name(f"{path.name}.{sha256[:16]}{PART}")
        _transfer(url, part, size)
        try:
            checked(part, sha256, size)
        except ValueError:
            part.unlink()  # or every further attempt would go on from wrong bytes
            raise ValueError(f"server: {url} is not the expert of the catalogue: its SHA-256 differs") from None
        os.replace(part, path)
    return path


def _transfer(url: str, part: Path, size: int) -> None:
    """Bring a file to its whole length."""
    if part.exists() and part.stat().st_size > size:
        part.unlink()
    left = ATTEMPTS
    with progress(total=size, desc=part.name.partition(".")[0], unit="B", unit_scale=True) as bar:
        while (have := part.stat().st_size if part.exists() else 0) < size:
            bar.update(have - bar.n)
            try:
                _go_on(url, part, have, size, bar)
                failure = None
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                failure = error
            now = part.stat().st_size if part.exists() else 0
            left = ATTEMPTS if now > have else left - 1
            if not left:
                raise OSError(f"{url} was cut off at {now:,} of {size:,} bytes{f': {failure}' if failure else ''}")


def _go_on(url: str, part: Path, have: int, size: int, bar: Any) -> None:
    """Append what a server sends from a byte on; never more than the whole length."""
    with _opened(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        mode = "ab" if have and answer.status == http.client.PARTIAL_CONTENT else "wb"  # 200: it sends all of it
        with open(part, mode) as file:
            left = size - file.tell()
            while left and (block := answer.read(min(BLOCK, left))):
                file.write(block)
                left -= len(block)
                bar.update(len(block))


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str]) -> Iterator[Any]:
    """Yield the answer to a GET request.

    Raises:
        OSError: there is none, it is an error or no HTTP.
        ValueError: this is no address.
    """
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        raise OSError(f"{url}: the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(f"{url}: no answer: {error.reason}") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise ValueError(f"server: {url!r} is no address: {error}") from None
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url}: no answer in HTTP: {error or type(error).__name__}") from None
    with answer:
        yield answer
