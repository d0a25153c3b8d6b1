"""The cursor of a loader, its only state that changes."""

from typing import NamedTuple

EMPTY_DIGEST = ""  # digest of an epoch of which no index has been given


class Place(NamedTuple):
    """A place between two batches.

    Attributes:
        epoch: number of the epoch, from 0.
        position: number of samples of the epoch before this place: of all ranks together, or with a user's sampler of
            this rank.
        digest: digest of the indices that a user's sampler has given; ``None``: not known.
    """

    epoch: int = 0
    position: int = 0
    digest: str | None = EMPTY_DIGEST


class Cursor:
    """The place after the last batch that a loader has handed out.

    Attributes:
        place: that place.
        version: number of times that the place was set by a call, not by a pass.
    """

    def __init__(self) -> None:
        self.place = Place()
        self.version = 0
        self._resumes = False  # the place was loaded, and no batch has been handed out since

    def start(self) -> Place:
        """Return the place where the next pass begins: an epoch left midway starts again, unless it was loaded."""
        return self.place if self._resumes else Place(self.place.epoch)

    def seek(self, place: Place, *, resumes: bool) -> None:
        """Set the place; ``resumes``: whether the next pass begins in the middle of its epoch."""
        self.place, self._resumes = place, resumes
        self.version += 1

    def advance(self, place: Place, version: int) -> None:
        """Move to the place after a batch, unless the place was set since the pass that rendered the batch began."""
        if version == self.version:
            self.place, self._resumes = place, False
