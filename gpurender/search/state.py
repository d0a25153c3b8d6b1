"""State: what the configs and results of a study say at one moment: which jobs are left. A pure function of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpurender.search.config import Config
from gpurender.search.ladder import Ladder, promoted
from gpurender.search.proposers import Tried


class State:
    """What the files of a study say at one moment.

    Args:
        found: number and config by key, in the order of the numbers.
        results: by key and rung.
        ladder: of the study.
        complete: whether no config will be added.

    Attributes:
        configs: by key, in the order of their numbers.
        numbers: theirs.
    """

    def __init__(
        self,
        found: Mapping[str, tuple[int, Config]],
        results: Mapping[tuple[str, int], Mapping[str, Any]],
        ladder: Ladder,
        complete: bool,
    ) -> None:
        self.results = results
        self.configs = {key: config for key, (_, config) in found.items()}
        self.numbers = {number for number, _ in found.values()}
        self.complete = complete
        self._ladder = ladder
        self._queues = list(self._queue_of_each_rung())

    def jobs(self) -> Iterator[tuple[str, int]]:
        """Yield the jobs that are left, key and rung: the highest rung first."""
        for rung in reversed(range(self._ladder.rungs)):
            for key in self._queues[rung]:
                if (key, rung) not in self.results:
                    yield key, rung

    def tried(self) -> Sequence[Tried]:
        """Return the configs so far, with their scores."""
        found = []
        for key, config in self.configs.items():
            known = {rung: self.results.get((key, rung)) for rung in range(self._ladder.rungs)}
            scores = {rung: result["score"] for rung, result in known.items() if result is not None}
            failed = None in scores.values()
            seconds = {rung: _seconds(self.results, key, rung) for rung in scores}
            found.append(Tried(config.choices, {r: x for r, x in scores.items() if x is not None}, failed, seconds))
        return found

    def _queue_of_each_rung(self) -> Iterator[list[str]]:
        """Yield the keys that come to each rung, in order."""
        queue, complete = list(self.configs), self.complete
        for rung in range(self._ladder.rungs):
            yield queue
            results = [self.results.get((key, rung)) for key in queue]
            scores = [None if result is None else comparable(result["score"]) for result in results]
            queue = [queue[place] for place in promoted(scores, self._ladder.eta, complete)]
            queue = [key for key in queue if self.results[key, rung]["score"] is not None]  # it failed
            complete = complete and None not in scores


def _seconds(results: Mapping[tuple[str, int], Mapping[str, Any]], key: str, top: int) -> float:
    """Return the seconds of training of a config up to a rung."""
    known = [results.get((key, rung), {}) for rung in range(top + 1)]
    return sum(result.get("seconds", {}).get("training", 0.0) for result in known)


def comparable(score: float | None) -> float:
    """Return a score as a number: a config that failed is worse than all others."""
    return float("-inf") if score is None else score
