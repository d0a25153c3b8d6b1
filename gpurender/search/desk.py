"""Desk: which job of a study is next, and where its result goes.

The desk works on the study's folder and knows nothing that is not there. Who holds a job is the business of the boards
(:mod:`gpurender.search.board`), which say how a job is claimed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from gpurender.search.config import Config
from gpurender.search.folder import Folder, damaged, publish, read
from gpurender.search.ladder import Ladder
from gpurender.search.leases import sweep
from gpurender.search.proposers import proposed
from gpurender.search.space import Space
from gpurender.search.state import State
from gpurender.util import checks
from gpurender.util.folder_lock import turn

MAX_CONFIGS = 1_000_000
EXHAUSTED = "exhausted.json"  # of a space that has fewer configs than are wanted: how many
AHEAD = 64  # configs that are added before a worker is free for them, to find those that see the same batches
REPEATED = 10_000  # proposals in a row of configs that are there, before a space counts as exhausted


class Terms(Protocol):
    """What a desk knows of a study: the arguments of :func:`gpurender.search.create`."""

    root: Path
    space: Space
    ladder: Ladder
    proposer: str
    objectives: tuple[str, ...]
    seed: int
    configs: int
    patience: float


class Job(NamedTuple):
    """A training of a config up to a rung, and its measurement."""

    key: str
    rung: int
    config: Config


class Held(Protocol):
    """The right to do a job."""

    def release(self) -> None:
        """Give the right back."""


H = TypeVar("H", bound=Held)


class Desk:
    """The next jobs of a study; any number of processes may have a desk of the same study.

    Args:
        study: whose jobs they are.
        folder: its files.
    """

    def __init__(self, study: Terms, folder: Folder) -> None:
        self.folder = folder
        self.patience = study.patience
        self._study = study
        self._repeated: set[int] = set()  # numbers of proposals whose config was there
        self._batches: dict[str, tuple[Any, ...]] = {}  # of configs, by key
        self._exhausted = False

    @property
    def top(self) -> int:
        """The number of the last rung."""
        return self._study.ladder.rungs - 1

    def state(self) -> State:
        """Return what the folder says now."""
        found, study = self.folder.configs(), self._study
        results = self.folder.results()
        complete = self._exhausted or len(found) >= min(study.configs, _most(study.root))
        return State(found, results, study.ladder, complete)

    def take(
        self, claim: Callable[[Path], H | None], like: Job | None = None, together: int = 1
    ) -> tuple[Job, H] | None:  # fmt: skip
        """Return the first job that can be claimed, and its claim; ``None`` if there is none now.

        A config is added where all jobs are being done and the study wants more.

        Args:
            claim: claims a lease by its path; returns ``None`` if another one holds it.
            like: claim only a job of this one's rung whose training sees the same batches.
            together: how many jobs a worker does at once. Where one is to be like another, configs are added ahead:
                so many of Optuna's, who would know more if it were asked later, and 64 of other proposers.
        """
        while True:
            state = self.state()
            for key, rung in state.jobs():
                if like is not None and not self._is_like(state.configs[key], rung, like):
                    continue
                held = claim(self.folder.lease(key, rung))
                if held is None:
                    continue
                try:
                    is_open = (key, rung) not in self.folder.results()  # its holder may just have published it
                except BaseException:
                    held.release()
                    raise
                if is_open:
                    return Job(key, rung, state.configs[key]), held
                held.release()
            if like is not None and not self._may_propose_ahead(state, like, together):
                return None
            if not self._propose(state):
                return None

    def publish(self, key: str, rung: int, values: dict[str, Any]) -> bool:
        """Add the result of a job; return whether it is new."""
        published = self.folder.add_result(key, rung, values)
        if values["score"] is None or rung == self.top:
            self.folder.remove_states(key)  # after the result: a kill in between costs no training
        return published

    def is_done(self) -> bool:
        """Return whether no job is left, nor being done; if so, remove what nobody needs any more."""
        state = self.state()
        if not state.complete or any(True for _ in state.jobs()):
            return False
        self.tidy(state)
        return True

    def tidy(self, state: State) -> None:
        """Remove the states of trainings, and what killed workers have left."""
        names = {f"{key}.{rung}" for key, rung in state.results}
        for name in ("configs", "results", "leases"):
            sweep(self.folder.root / name, names if name == "leases" else (), self.patience)
        self.folder.remove_states()

    def _is_like(self, config: Config, rung: int, other: Job) -> bool:
        """Return whether the training of a config up to a rung sees the same batches as that of another job."""
        for one in (config, other.config):
            if one.key not in self._batches:
                self._batches[one.key] = one.batches
        return rung == other.rung and self._batches[config.key] == self._batches[other.key]

    def _may_propose_ahead(self, state: State, like: Job, together: int) -> bool:
        """Return whether a config may be added that is like another one's, though others wait that nobody holds."""
        most = AHEAD if self._study.proposer in ("random", "grid") else together
        waiting = sum(rung == 0 and not self.folder.lease(key, 0).exists() for key, rung in state.jobs())
        return like.rung == 0 and waiting < most - 1  # without the one that the worker holds

    def _propose(self, state: State) -> bool:
        """Add the next config, if the study wants more; return whether there may be new jobs."""
        if state.complete:
            return False
        with turn(self.folder.root):  # Optuna's proposals depend on those before
            state = self.state()
            if state.complete:  # another worker added the last one
                return True
            config = self._next_config(state)
            if config is None:
                self._exhausted = True
                publish(self.folder.root / EXHAUSTED, {"configs": len(state.configs)})
            else:
                self.folder.add_config(*config)
        return True

    def _next_config(self, state: State) -> tuple[int, Config] | None:
        """Return number and config of the next proposal that is not there yet; ``None`` if there are no more."""
        study = self._study
        tried = () if study.proposer in ("random", "grid") else state.tried()
        number, in_a_row, proposer = 0, 0, study.proposer
        while in_a_row < REPEATED:
            if number in state.numbers or number in self._repeated:  # the first that is free: a file may have been lost
                number += 1
                continue
            config = proposed(proposer, study.space, study.seed, number, tried, study.objectives)
            if config is None or config.key not in state.configs:
                return None if config is None else (number, config)
            if proposer in ("random", "grid"):
                self._repeated.add(number)
            in_a_row += 1
            proposer = "grid" if study.proposer == "grid" else "random"  # Optuna repeats its favourites
        return None


def _most(root: Path) -> int:
    """Return how many configs the space has, as far as is known."""
    path = root / EXHAUSTED
    if not path.exists():
        return MAX_CONFIGS
    try:
        return checks.integer("configs", read(path, ("configs",))["configs"], 0, MAX_CONFIGS)
    except TypeError as error:
        raise damaged(path, error) from None
