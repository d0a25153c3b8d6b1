"""A lock that the kernel releases: one process at a time works in a folder.

The lock is ``flock`` on a file in the folder, so it ends with its process, however that ends. It holds between the
processes of a machine, and between machines where the network file system has locks between them (NFS does, unless it
is mounted with ``nolock``).
"""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

LOCK = ".gpurender-lock"


@contextlib.contextmanager
def alone(folder: str | os.PathLike[str], what: str) -> Iterator[bool]:
    """Hold the folder's lock; yield whether there is one, which there is not where files or locks are refused.

    Raises:
        RuntimeError: another process holds it; ``what`` says what that one does, such as "another export writes".
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
                os.unlink(path)  # before the release: whoever opened it meanwhile sees that it is gone
            os.close(handle)


def _locked(path: str) -> int | None:
    """Return an open descriptor that holds the lock, ``None`` if there can be none.

    Raises:
        BlockingIOError: another process has it.
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
        os.close(handle)  # its holder ended, and removed the file, between our opening and our lock: once more
    return None


def _opened(path: str) -> int | None:
    """Return a descriptor of the lock's file, for reading alone if it is another user's; ``None`` if it cannot be."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with contextlib.suppress(OSError):
            return os.open(path, flags, 0o666)
    return None


def _sign(handle: int) -> None:
    """Write into the lock's file who holds it, for the message of whoever is refused."""
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _owner(path: str) -> str:
    """Who holds the lock, in brackets; nothing if that is not known."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(200).strip()
    except (OSError, ValueError):
        return ""
    return f" ({text})" if text else ""
