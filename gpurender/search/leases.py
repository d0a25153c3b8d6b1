"""Leases: the right to do a job, as a file that its holder keeps touching.

A lease is created exclusively, so one process holds it. Its holder touches it four times per ``patience``. A lease that
nobody has touched for longer than ``patience`` is stale: its holder was killed, or its machine is gone. The age is
measured by the clock of the file system: a file is touched and its time compared, so the clocks of machines may differ
by hours. On the holder's own machine a lease is stale as soon as its process has ended.

A stale lease is taken over by a rename, which only one process can do.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpurender.util.atomic_files import TEMPORARY

BEATS = 4  # touches per patience
PROBE = ".clock-"
TAKEN = ".taken-"


class Lease:
    """A lease that this process holds.

    Args:
        path: of the file.
        handle: its open descriptor: touching and comparing go by it, so a lease that was lost stays alone.
        patience: seconds.
    """

    def __init__(self, path: Path, handle: int, patience: float) -> None:
        self._path, self._handle = path, handle
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._touch, args=(patience / BEATS,), name="gpurender-lease", daemon=True)
        self._beat.start()

    def held(self) -> bool:
        """Return whether no other process has taken the lease over."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self._path))
        except OSError:
            return False

    def release(self) -> None:
        """Give the lease back."""
        self._ended.set()
        self._beat.join()
        with contextlib.suppress(OSError):
            if self.held():
                os.unlink(self._path)
        os.close(self._handle)

    def _touch(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            with contextlib.suppress(OSError):  # a full disk, a file system that is away: the next touch may succeed
                os.utime(self._handle)


def claimed(path: Path, patience: float) -> Lease | None:
    """Return a lease of this process, which touches it; ``None`` if another process holds it.

    Args:
        path: of the lease's file, in an existing folder.
        patience: seconds after which an untouched lease is stale.

    Raises:
        OSError: the folder takes no files.
    """
    handle = made(path, patience, _identity())
    return None if handle is None else Lease(path, handle, patience)


@contextlib.contextmanager
def leased(path: Path, patience: float) -> Iterator[Lease | None]:
    """Hold a lease while the block lasts; ``None`` if another process holds it. See :func:`claimed`."""
    lease = claimed(path, patience)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


def made(path: Path, patience: float, holder: Mapping[str, Any]) -> int | None:
    """Make a lease and return its open descriptor; ``None`` if there is one that is not stale.

    Args:
        path: of the lease's file.
        patience: seconds.
        holder: what the file holds. Of a process whose identity it does not have, only the age says that it has ended.
    """
    for _ in range(2):  # the second time after the removal of a stale lease
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            if not _removed(path, patience):
                return None
            continue
        try:
            os.write(handle, json.dumps(dict(holder)).encode())
        except OSError as error:  # a full disk: without its holder's name the lease would be nobody's
            os.close(handle)
            os.unlink(path)
            raise OSError(error.errno, error.strerror, str(path)) from None
        return handle
    return None


def is_stale(path: Path, patience: float) -> bool:
    """Return whether a lease has no living holder; ``False`` if there is no lease."""
    return _has_ended(holder_of(path)) or (_age(path) or 0.0) > patience


def _removed(path: Path, patience: float) -> bool:
    """Remove a lease if it is stale; return whether this process did."""
    seen = _mark(path)
    if seen is None:
        return True
    if not is_stale(path, patience):
        return False
    taken = path.with_name(f"{path.name}{TAKEN}{os.urandom(8).hex()}")
    try:
        os.rename(path, taken)
    except FileNotFoundError:  # another process was faster
        return False
    if _mark(taken) != seen:  # a third process had taken the stale one over: this one is alive
        with contextlib.suppress(OSError):
            os.link(taken, path)
        os.unlink(taken)
        return False
    os.unlink(taken)
    return True


def _mark(path: Path) -> tuple[int, int] | None:
    """Return what tells a lease, as it was last touched, from any other; ``None`` if it is gone. A rename keeps it."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _age(path: Path) -> float | None:
    """Return the seconds since a lease was touched, by the file system's clock; ``None`` if it is gone.

    Where no file can be made, as for a reader of somebody else's study, this machine's clock must do.
    """
    probe = path.with_name(f"{PROBE}{os.urandom(8).hex()}")
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        now = os.stat(probe).st_mtime
    except OSError:
        now = time.time()
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)
    try:
        return now - os.stat(path).st_mtime
    except FileNotFoundError:
        return None


def sweep(folder: Path, finished: Collection[str], patience: float) -> None:
    """Remove what killed processes have left in a folder: temporary files, probes, the leases of finished jobs."""
    for path in folder.iterdir():
        done = path.name in finished or any(mark in path.name for mark in (PROBE, TAKEN, TEMPORARY))
        with contextlib.suppress(OSError):
            if done and ((_age(path) or 0.0) > patience or _has_ended(holder_of(path))):
                path.unlink()


def _identity() -> dict[str, Any]:
    """Return what tells this process from all others, now and later."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "space": _space(), "pid": pid, "began": _began(pid)}


def _space() -> str:
    """Return the boot of the machine and the namespace of numbers of this process; ``""`` if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks; ``None`` if there is no such process, or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def holder_of(path: Path) -> dict[str, Any] | None:
    """Return what a lease says of its holder; ``None`` if it cannot be read (it is being written, or gone)."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, RecursionError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _has_ended(holder: dict[str, Any] | None) -> bool:
    """Return whether a holder is a process of this machine that is no more."""
    if holder is None or not holder.get("space") or holder["space"] != _space():
        return False
    pid, began = holder.get("pid"), holder.get("began")
    return not isinstance(pid, int) or began is None or _began(pid) != began
