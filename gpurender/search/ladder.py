"""Ladder: how long configs are trained and how they are measured, rung by rung, and which of them go on.

Rung r trains a config for ``images[r]`` images, from where rung r - 1 ended. Of those measured on a rung, about one in
``eta`` goes on to the next (asynchronous successive halving, Li et al., MLSys 2020, arXiv:1810.05934).

**Nothing depends on who is fast.** Results count in the order of a rung's queue, not as they come: on rung 0 in the
order of the configs' numbers, above in that of the promotions. A result behind one that is missing waits. So the same
configs go on whatever the number of workers, and whatever happens to them.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gpurender.util import checks, keywords

__all__ = ["Ladder"]

MAX_RUNGS = 16


@keywords.checked
@dataclass(frozen=True)
class Ladder:
    """Lengths of training, and how a config is measured.

    Args:
        images: images of the whole pre-training on each rung, ascending.
        eta: one in ``eta`` configs goes on; 2 or more.
        finetune_steps: optimiser steps of a fine-tuning. Rung 0 is judged by frozen features, unless it is the last;
            all others by fine-tuning.
        seeds: fine-tunings per task on the last rung; on the rungs between one.
    """

    images: Any = (50_000, 200_000, 800_000)  # after validation: a tuple of integers
    eta: int = 4
    finetune_steps: int = 200
    seeds: int = 3

    def __post_init__(self) -> None:
        given = self.images
        if not isinstance(given, Sequence) or isinstance(given, str) or not 1 <= len(given) <= MAX_RUNGS:
            raise ValueError(f"images must be a list of 1 to {MAX_RUNGS} integers, got {checks.shown(given)}")
        images = tuple(checks.integer(f"images[{i}]", value, 1, 2**50) for i, value in enumerate(given))
        if any(a >= b for a, b in pairwise(images)):
            raise ValueError(f"images must ascend, got {checks.shown(given)}")
        object.__setattr__(self, "images", images)
        checks.integer("eta", self.eta, 2, 1000)
        checks.integer("finetune_steps", self.finetune_steps, 1, 2**31 - 1)
        checks.integer("seeds", self.seeds, 1, 100)

    @property
    def rungs(self) -> int:
        """The number of rungs."""
        return len(self.images)

    def finetunings(self, rung: int) -> int:
        """Return how many fine-tunings per task a rung measures."""
        if rung == self.rungs - 1:
            return self.seeds
        return min(rung, 1)


def promoted(scores: Sequence[float | None], eta: int, complete: bool) -> list[int]:
    """Return which places of a rung's queue go on, in the order in which they do.

    After the n-th result, those go on that are among the best ``n // eta`` so far. Of a queue that is complete at least
    one goes on. Equal scores: the earlier place is better.

    Args:
        scores: of the places of the queue; ``None``: not known yet. Places behind such a one do not count.
        eta: one in so many goes on.
        complete: whether the queue will not become longer.
    """
    best: list[tuple[float, int]] = []  # (-score, place) of the results so far, sorted
    chosen: dict[int, None] = {}
    for place, score in enumerate(scores):
        if score is None:
            return list(chosen)
        bisect.insort(best, (-score, place))
        count = len(best) // eta
        # Only two can be new among the best: this result, and the last of them if there is room for one more.
        new = {one for _, one in best[max(0, count - 1) : count]}
        if count and (-score, place) <= best[count - 1]:
            new.add(place)
        chosen.update(dict.fromkeys(sorted(new - chosen.keys())))
    if complete and best and not chosen:
        chosen[best[0][1]] = None
    return list(chosen)
