"""Dispatcher: hands out the jobs of a study to workers that ask by messages. All it knows is in the study's folder.

A lease holds the worker's name and its attempt: a worker that begins again has the same name and another attempt, and
gives up what it held before. The dispatcher touches the lease when the worker says that it is alive; a lease that was
not touched for the study's patience goes to another one. So a dispatcher that begins again goes on where the last one
ended, and living workers keep their jobs. Its calls may be repeated: each leaves what one call leaves.
"""

import contextlib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpurender.search.desk import Desk, Job
from gpurender.search.leases import holder_of, is_stale, made
from gpurender.search.mirror import LASTING, LEASES, Mirror, workplace
from gpurender.search.store import is_address
from gpurender.search.study import Study

OWNER = "dispatcher.json"  # at an address: which dispatcher works on it
Ticket = tuple[str, int, str]  # key, rung, and the config as JSON


class Dispatcher:
    """Hands out jobs and takes results.

    Args:
        place: the folder of the study, or its address. It is opened by the first call, so that the caller sees what is
            wrong with it.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._mirror: Mirror | None = None
        self._copy = contextlib.ExitStack()  # the folder of the copy of an address, as long as this process lives
        self._id = os.urandom(16).hex().encode()

    @functools.cached_property
    def _desk(self) -> Desk:
        if is_address(self._place):
            self._mirror = Mirror(self._place, self._copy.enter_context(workplace()))
            self._mirror.fetch(*LASTING, LEASES)
            self._mirror.store.remove(OWNER)
            self._mirror.store.create(OWNER, self._id)
        desk = Study(self._place if self._mirror is None else self._mirror).desk
        desk.folder.make()
        return desk

    def _keep(self) -> None:
        """Bring what has changed to the address, before the caller is answered.

        Raises:
            RuntimeError: a dispatcher of another cluster has begun to work on the address.
        """
        if self._mirror is None:
            return
        if self._mirror.store.read([OWNER]).get(OWNER, self._id) != self._id:
            raise RuntimeError(f"study: another Ray cluster has begun to work on {self._place}; one at a time can")
        self._mirror.push(*LASTING, LEASES)

    def take(self, worker: str, attempt: str, together: int = 1) -> list[Ticket]:
        """Return jobs for a worker, its only ones, of one rung and with the same batches; none if there is none now.

        Args:
            worker: its name.
            attempt: tells it from a worker of this name that has ended.
            together: the most that it takes at once.
        """
        holder = {"worker": worker, "attempt": attempt}
        self._forget(worker)
        found: list[Job] = []
        while len(found) < together:
            like = found[0] if found else None
            taken = self._desk.take(lambda path: _claimed(path, self._desk.patience, holder), like, together)
            if taken is None:
                break
            found.append(taken[0])
        self._keep()
        return [(job.key, job.rung, job.config.to_json()) for job in found]

    def touch(self, attempt: str, key: str, rung: int) -> bool:
        """Note that a worker is alive; return whether the job is still its own."""
        path = self._desk.folder.lease(key, rung)
        if not _is_of(path, attempt):
            return False
        with contextlib.suppress(OSError):  # a full disk: the next touch may succeed
            os.utime(path)
        return True

    def publish(self, key: str, rung: int, values: dict[str, Any]) -> bool:
        """Add the result of a job; return whether it is new."""
        published = self._desk.publish(key, rung, values)
        self._keep()
        if self._mirror is not None and (values["score"] is None or rung == self._desk.top):
            self._mirror.remove_states(key)
        return published

    def drop(self, attempt: str, key: str, rung: int) -> None:
        """Take a job back from a worker, unless another one has it."""
        path = self._desk.folder.lease(key, rung)
        if _is_of(path, attempt):
            path.unlink(missing_ok=True)
            self._keep()

    def is_done(self) -> bool:
        """Return whether no job is left."""
        done = self._desk.is_done()
        self._keep()
        if done and self._mirror is not None:
            self._mirror.remove_states()
        return done

    def is_idle(self) -> bool:
        """Return whether no living worker has a job."""
        return all(is_stale(path, self._desk.patience) for path in self._leases())

    def _forget(self, worker: str) -> None:
        """Remove the leases of a worker: it has begun again."""
        for path in self._leases():
            holder = holder_of(path)
            if holder is not None and holder.get("worker") == worker:
                path.unlink(missing_ok=True)

    def _leases(self) -> list[Path]:
        return [path for path in (self._desk.folder.root / "leases").iterdir() if not path.name.startswith(".")]


@dataclass(frozen=True)
class _Named:
    """A lease in the name of a worker, which outlives the dispatcher."""

    path: Path

    def release(self) -> None:
        """Give it back."""
        self.path.unlink(missing_ok=True)


def _claimed(path: Path, patience: float, holder: Mapping[str, Any]) -> _Named | None:
    handle = made(path, patience, holder)
    if handle is None:
        return None
    os.close(handle)
    return _Named(path)


def _is_of(path: Path, attempt: str) -> bool:
    holder = holder_of(path)
    return holder is not None and holder.get("attempt") == attempt
