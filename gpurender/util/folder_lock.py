"""A lock that the operating system releases: one process at a time works in a folder.

The lock is ``flock`` on a file in the folder, so the lock ends with its process, however the process ends. It holds
between the processes of a machine, and between machines if the network file system has locks between them (NFS does,
unless mounted with ``nolock``).
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

LOCK = ".gpurender-lock"


@contextlib.contextmanager
def alone(folder: str | os.PathLike[str], what: str) -> Iterator[bool]:
    """Hold the folder's lock; yield whether it is held: ``False`` if the file system refuses files or locks.

    Raises:
        RuntimeError: another process holds the lock; ``what`` says what that process does, such as "another export
            writes".
    """
    path = os.path.join(folder, LOCK)
    try:
        handle = _locked(path)
    except BlockingIOError:
        raise RuntimeError(
            f"{what} {os.fspath(folder)!r}{_owner(path)}: wait until it has ended, or choose another directory"
        ) from None
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)  # before the release: a process that has opened the file meanwhile sees that it is gone
            os.close(handle)


def _locked(path: str) -> int | None:
    """Return an open descriptor that holds the lock, or ``None`` if files or locks are refused.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    while (handle := _opened(path)) is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                _sign(handle)
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # a file system without locks
            os.close(handle)
            return None
        os.close(handle)  # its holder removed the file and ended between our opening and our lock: try again
    return None


def _opened(path: str) -> int | None:
    """Return a descriptor of the lock file, read-only if it is another user's; ``None`` if it cannot be opened."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return os.open(path, flags, 0o666)
    return None


def _sign(handle: int) -> None:
    """Write the lock's holder into the lock file, for the error message of the processes that are refused."""
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _owner(path: str) -> str:
    """Return the lock's holder in brackets, or an empty string if the holder is unknown."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(200).strip()
    except (OSError, ValueError):
        return ""
    return f" ({text})" if text else ""
