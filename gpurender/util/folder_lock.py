"""A lock that the operating system releases: one process at a time works in a folder, or several of one kind.

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
TURN = f"{LOCK}-turn"
AT_ONCE = fcntl.LOCK_NB  # granted or refused, without waiting


@contextlib.contextmanager
def alone(folder: str | os.PathLike[str], what: str, name: str = LOCK) -> Iterator[bool]:
    """Hold the folder's lock; yield whether it is held: ``False`` if the file system refuses files or locks.

    Args:
        folder: an existing folder.
        what: says what another process that holds the lock does, such as "another export writes".
        name: of the lock's file; each name is a lock of its own.

    Raises:
        RuntimeError: another process holds the lock.
    """
    path = os.path.join(folder, name)
    handle = _granted(path, fcntl.LOCK_EX | AT_ONCE, what)
    try:
        yield handle is not None
    finally:
        _release(path, handle)


@contextlib.contextmanager
def shared(folder: str | os.PathLike[str], what: str) -> Iterator[bool]:
    """Hold the lock of :func:`alone` together with other processes that call this function; yield whether it is held.

    Enter this block in a :func:`turn`: the last process to leave holds the lock alone for a moment, in its turn, to
    remove the file, and would refuse a process that enters out of turn.

    Raises:
        RuntimeError: another process holds the lock alone.
    """
    path = os.path.join(folder, LOCK)
    handle = _granted(path, fcntl.LOCK_SH | AT_ONCE, what)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with turn(folder):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | AT_ONCE)
                except OSError:  # not the last one
                    os.close(handle)
                else:
                    _release(path, handle)


@contextlib.contextmanager
def turn(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Wait until no other process has its turn in the folder, for work of a moment."""
    path = os.path.join(folder, TURN)
    handle = _locked(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        _release(path, handle)


def _granted(path: str, mode: int, what: str) -> int | None:
    """Return the descriptor of :func:`_locked`, or raise ``RuntimeError`` in a sentence."""
    try:
        return _locked(path, mode)
    except BlockingIOError:
        raise RuntimeError(
            f"{what} {os.path.dirname(path)!r}{_owner(path)}: wait until it has ended, or choose another directory"
        ) from None


def _release(path: str, handle: int | None) -> None:
    """Remove the file of a lock that is held alone, and release the lock."""
    if handle is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)  # before the release: a process that has opened the file meanwhile sees that it is gone
        os.close(handle)


def _locked(path: str, mode: int) -> int | None:
    """Return an open descriptor that holds the lock, or ``None`` if files or locks are refused.

    Raises:
        BlockingIOError: another process holds the lock, and the mode does not wait.
    """
    while (handle := _opened(path)) is not None:
        try:
            fcntl.flock(handle, mode)
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
        except BaseException:  # Ctrl-C while waiting
            os.close(handle)
            raise
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
