"""Random search for categories: the first candidates that pass a test, kept on disk, continued when interrupted."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpurender.util import disk_cache
from gpurender.util.progress import progress

SAVE_SECONDS = 10.0  # seconds of searching that a kill may lose


def key_of(law: Any) -> str:
    """Return the name of a search: a hash of everything that its result depends on, given as JSON values."""
    return hashlib.sha256(json.dumps(law).encode()).hexdigest()


@dataclass(frozen=True)
class Search:
    """A search among candidates 0, 1, 2, ... for those that pass a test; longer results begin with the shorter ones.

    Attributes:
        family: name of the family, of the files of the result and in the progress bar.
        key: name of the search.
        accepted: the test, from the ids of a batch, int64 ``[batch]``, to the ids that pass, in order.
        batch: candidates per call of the test; the result does not depend on it.
        limit: candidates in a row without a category after which the search gives up.
        hopeless: the error's text in that case.
        shipped: the result that is known without a search.
    """

    family: str
    key: str
    accepted: Callable[[np.ndarray], list[int]]
    batch: int
    limit: int
    hopeless: str
    shipped: tuple[int, ...] = ()

    def known(self) -> list[int]:
        """Return the ids that are known already."""
        return max(self._kept(), list(self.shipped))  # the longer one: one begins with the other

    def ids(self, classes: int) -> list[int]:
        """Return the ids of the first ``classes`` candidates that pass, or more.

        The ids are cached; a later search continues from the cached ids, also after an interruption.

        Raises:
            ValueError: ``limit`` candidates in a row fail.
        """
        found = self.known()
        self._keep(found)
        if len(found) >= classes:
            return found
        longer, saved = self._longer(found, classes), time.monotonic()
        try:
            for found in longer:
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._keep(found)
                    saved = time.monotonic()
        finally:  # also after Ctrl-C
            self._keep(found)
        return found

    def _longer(self, found: list[int], classes: int) -> Iterator[list[int]]:
        """Yield the ids found after every further batch of candidates, until there are ``classes`` ids.

        The batch of the last id found is tested again, because the number of its tested candidates is unknown. So
        batches begin where they would without an interruption, and the ids are the same.
        """
        tried = found[-1] // self.batch * self.batch if found else 0
        found = [number for number in found if number < tried]
        with progress(
            total=classes, initial=len(found), desc=f"{self.family}: category search", unit="category", miniters=0
        ) as bar:
            while len(found) < classes:
                if tried - (found[-1] if found else 0) > self.limit:
                    raise ValueError(self.hopeless)
                accepted = self.accepted(np.arange(tried, tried + self.batch))
                found += accepted
                tried += self.batch
                bar.set_postfix_str(f"{tried:,} systems tried", refresh=False)  # what moves while none is found
                bar.update(min(len(accepted), classes - bar.n))
                yield found

    def _keep(self, found: list[int]) -> None:
        """Save ids, unless a longer result is saved: all results are prefixes of the same sequence."""
        if len(found) > len(self._kept()):
            disk_cache.save(self.family.lower(), self.key, found)

    def _kept(self) -> list[int]:
        return disk_cache.load(self.family.lower(), self.key) or []
