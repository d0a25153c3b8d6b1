"""Board: who hands out the jobs of a study. Workers know nothing else of an engine.

:class:`LeaseBoard` is for workers that see the folder: each takes its jobs itself, by leases. On Ray one actor hands
them out (:mod:`gpurender.search.ray_engine`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gpurender.search.desk import Desk, Job
from gpurender.search.leases import Lease, claimed


class Claim(Protocol):
    """A job that this worker holds."""

    @property
    def job(self) -> Job:
        """What is to be done."""

    def is_held(self) -> bool:
        """Return whether no other worker has taken the job over."""

    def publish(self, values: dict[str, Any]) -> bool:
        """Hand the result in; return whether it is new."""


class Board(Protocol):
    """Who hands out jobs."""

    def claimed(self) -> AbstractContextManager[Sequence[Claim]]:
        """Hold jobs while the block lasts, of one rung and with the same batches; none if there is none now."""

    def is_done(self) -> bool:
        """Return whether no job is left; if not, others do the last ones, whose results may promote."""


@dataclass(frozen=True)
class LeaseBoard:
    """Jobs that this process takes itself, by leases in the folder.

    Attributes:
        desk: of the study.
        together: the most that it takes at once.
    """

    desk: Desk
    together: int = 1

    @contextlib.contextmanager
    def claimed(self) -> Iterator[Sequence["LeaseClaim"]]:
        """Hold jobs while the block lasts, of one rung and with the same batches; none if there is none now."""
        found: list[LeaseClaim] = []
        with contextlib.ExitStack() as leases:
            while len(found) < self.together:
                taken = self.desk.take(self._claim, found[0].job if found else None, self.together)
                if taken is None:
                    break
                leases.callback(taken[1].release)
                found.append(LeaseClaim(*taken, self.desk))
            yield found

    def _claim(self, path: Path) -> Lease | None:
        return claimed(path, self.desk.patience)

    def is_done(self) -> bool:
        """Return whether no job is left; if so, remove what nobody needs any more."""
        return self.desk.is_done()


@dataclass(frozen=True)
class LeaseClaim:
    """A job that this process holds by a lease."""

    job: Job
    lease: Lease
    desk: Desk

    def is_held(self) -> bool:
        """Return whether no other process has taken the lease over."""
        return self.lease.held()

    def publish(self, values: dict[str, Any]) -> bool:
        """Write the result, unless there is one; return whether it was written."""
        return self.desk.publish(self.job.key, self.job.rung, values)
