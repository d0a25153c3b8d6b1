"""The cursor of a loader, its only state that changes: what is saved, and set to resume."""

from collections.abc import Callable
from typing import NamedTuple

EMPTY_DIGEST = ""  # digest of an epoch of which no index has been given


class Segment(NamedTuple):
    """A pass of a fixed number of steps over the stream of epochs (``steps_per_epoch``).

    Attributes:
        number: number of the pass, from 0.
        step: number of steps of the pass before the place that holds this segment.
        epoch, position: where the pass begins in the stream.
    """

    number: int = 0
    step: int = 0
    epoch: int = 0
    position: int = 0


class Place(NamedTuple):
    """A place between two batches.

    Attributes:
        epoch: number of the epoch, from 0.
        position: number of samples of the epoch before this place: of all ranks together, or with a user's sampler of
            this rank.
        digest: digest of the indices that a user's sampler has given; ``None``: not known.
        segment: the pass of a fixed number of steps, if passes are that.
    """

    epoch: int = 0
    position: int = 0
    digest: str | None = EMPTY_DIGEST
    segment: Segment | None = None


class Cursor:
    """The place after the last batch that a loader has handed out.

    Args:
        place: the first place.

    Attributes:
        place: the place after the last batch.
        version: number of times that the place was set by a call, not by a pass.
        given: the place before the last batch, at which that batch begins; ``None``: no batch was handed out.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.given: Place | None = None
        self.version = 0
        self._resumes = False  # the place was loaded, and no batch has been handed out since

    def start(self, restart: Callable[[Place], Place]) -> Place:
        """Return the place where the next pass begins: a pass left midway starts again, unless its place was loaded.

        ``restart``: of the plan.
        """
        return self.place if self._resumes else restart(self.place)

    def seek(self, place: Place, *, resumes: bool) -> None:
        """Set the place; ``resumes``: whether the next pass begins in the middle of its epoch."""
        self.place, self._resumes = place, resumes
        self.version += 1

    def advance(self, place: Place, version: int, given: Place | None = None) -> None:
        """Move to the place after a batch, unless the place was set since the pass that rendered the batch began.

        ``given``: the place before the batch; ``None``: the pass ended without one.
        """
        if version == self.version:
            self.place, self._resumes = place, False
            self.given = given or self.given
