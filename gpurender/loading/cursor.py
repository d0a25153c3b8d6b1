"""Where a loader is: the only thing about it that changes."""

from typing import NamedTuple

EMPTY_DIGEST = ""  # of an epoch of which no index has been given


class Place(NamedTuple):
    """A place between two batches.

    Attributes:
        epoch: from 0.
        position: samples of the epoch before it: of all ranks together, or of this rank's sampler.
        digest: of the indices that a user's sampler has given; ``None``: not known.
    """

    epoch: int = 0
    position: int = 0
    digest: str | None = EMPTY_DIGEST


class Cursor:
    """The place after the last batch that a loader has handed out.

    Attributes:
        place: that place.
        version: how often the place was set by a call, not by a pass.
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
        """Move behind a batch, unless the place was set since the pass that rendered the batch began."""
        if version == self.version:
            self.place, self._resumes = place, False
