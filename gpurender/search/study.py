"""Study: a search as a folder, on which any number of processes work; each may be killed at any moment.

What a study knows is what its folder holds (:mod:`gpurender.search.folder`). Which job is next is a function of it: the
promotions of the highest rung first, then a new config. A worker leases a job, trains from where the checkpoint of the
config ends, measures, and publishes the result. So a kill costs at most the steps since the last checkpoint, or what
was measured of one job, and nothing needs to be cleaned up. Two halves of a study, made from the same ``study.json``,
merge by copying ``configs`` and ``results``.
"""

import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gpurender.recipes.base import Recipe
from gpurender.runtime import devices
from gpurender.search.config import Config
from gpurender.search.folder import Folder, publish, read
from gpurender.search.ladder import Ladder, promoted
from gpurender.search.leases import Lease, is_stale, leased, sweep
from gpurender.search.measures import Judged, judged
from gpurender.search.proposers import PROPOSERS, Tried, proposed, require_optuna
from gpurender.search.space import Space
from gpurender.search.trial import trained
from gpurender.tasks import Task
from gpurender.training import engine, models
from gpurender.util import checks, keywords
from gpurender.util.atomic_files import TEMPORARY
from gpurender.util.folder_lock import LOCK, turn

__all__ = ["Study", "create"]

log = logging.getLogger("gpurender")

LAYOUT = 1
STUDY = "study.json"
ENTRIES = ("layout", "space", "tasks", "digests", "ladder", "proposer", "seed", "configs", "patience")
MAX_CONFIGS = 1_000_000
EXHAUSTED = "exhausted.json"  # of a space that has fewer configs than are wanted: how many
REPEATED = 10_000  # proposals in a row of configs that are there, before a space counts as exhausted
MAX_GRID = 1_000_000


@keywords.checked
def create(
    folder: str | os.PathLike[str],
    space: Space,
    tasks: Mapping[str, Task],
    *,
    ladder: Ladder | None = None,
    proposer: str = "random",
    configs: int = 64,
    seed: int = 0,
    patience: float = 120.0,
) -> "Study":
    """Make a study and return it; a study of the same arguments that is there already is returned.

    Args:
        folder: new, empty, or that of the same study.
        space: what may be chosen.
        tasks: what configs are measured on, by name. A task's validation share is measured in place of its test images.
            Relative paths are made absolute; all workers need the data at the same path.
        ladder: lengths and measures; ``None``: ``Ladder()``.
        proposer: ``"random"``, ``"grid"``, or Optuna's ``"tpe"`` and ``"gp"`` (extra ``search``).
        configs: how many configs are tried; a grid may have fewer.
        seed: of the proposer.
        patience: seconds after which the lease of a worker that does not touch it is taken over, on another machine; on
            the worker's own machine its end is seen at once.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; a task cannot be read; or the folder
            holds another study, or other files.
    """
    if not isinstance(space, Space):
        raise TypeError(f"space must be a gr.search.Space, got {checks.shown(space)}")
    if not isinstance(tasks, Mapping) or not tasks:
        raise ValueError(f"tasks must be a mapping of names to gr.tasks.Task, got {checks.shown(tasks)}")
    for name, task in tasks.items():
        if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"tasks: a name must be letters, digits, - and _, got {checks.shown(name)}")
        if not isinstance(task, Task):
            raise TypeError(f"tasks: {name!r} must be a gr.tasks.Task, got {checks.shown(task)}")
    placed = {name: dataclasses.replace(task, data=absolute(task)) for name, task in tasks.items()}
    chosen = Ladder() if ladder is None else ladder
    if not isinstance(chosen, Ladder):
        raise TypeError(f"ladder must be a gr.search.Ladder, got {checks.shown(ladder)}")
    checks.choice("proposer", proposer, PROPOSERS)
    if proposer in ("tpe", "gp"):
        require_optuna()
    if proposer == "grid" and (size := space.grid_size()) > MAX_GRID:
        raise ValueError(f"space must have at most {MAX_GRID:,} points for a grid, and it has {size:,}")
    root = checks.path("folder", folder)
    values = {
        "layout": LAYOUT,
        "space": json.loads(space.to_json()),
        "tasks": {name: json.loads(task.to_json()) for name, task in placed.items()},
        "digests": {name: digest(task, opened(name, task)) for name, task in placed.items()},
        "ladder": {"images": list(chosen.images), "eta": chosen.eta, "finetune_steps": chosen.finetune_steps,
                   "seeds": chosen.seeds},
        "proposer": proposer,
        "seed": checks.integer("seed", seed, 0, checks.UINT64_MAX),
        "configs": checks.integer("configs", configs, 1, MAX_CONFIGS),
        "patience": checks.real("patience", patience, 1.0, 86_400.0),
    }  # fmt: skip
    _claim(root, values)
    return Study(root)


def absolute(task: Task) -> str:
    """Return the data of a task with an absolute path."""
    name, colon, root = task.data.partition(":") if task.kind == "torchvision" else ("", "", task.data)
    return f"{name}{colon}{os.path.abspath(root)}"


def opened(name: str, task: Task) -> Judged:
    """Return a task with its images.

    Raises:
        ValueError: it cannot be read; the message has its name.
    """
    try:
        return judged(task)
    except ValueError as error:
        raise ValueError(f"task {name!r}: {error}") from None


def digest(task: Task, found: Judged) -> str:
    """Return 64 hex digits: SHA-256 of a task's arguments, classes and labels."""
    hashed = hashlib.sha256(task.to_json().encode())
    for samples in (found.train, found.judged):
        hashed.update(json.dumps([list(samples.classes), samples.labels.tolist()]).encode())
    return hashed.hexdigest()


def _claim(root: Path, values: dict[str, Any]) -> None:
    """Write ``study.json``, or see that the one that is there has the same values."""
    path = root / STUDY
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(not _is_left(entry) for entry in root.iterdir())):
            raise ValueError(f"study: folder {str(root)!r} must be new, empty or a study; it has files but no {STUDY}")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"study: folder {str(root)!r} cannot be made: {error.strerror}") from None
        publish(path, values)
    there = read(path, ENTRIES)
    for name, value in values.items():
        if there[name] != value:
            raise ValueError(
                f"study: {str(root)!r} is a study with another {name}: {checks.shown(there[name])}; "
                "choose another folder, or give the same arguments"
            )


def _is_left(path: Path) -> bool:
    """Return whether a file is what a killed or another ``create`` has left or is writing."""
    return path.name.startswith((TEMPORARY, LOCK))


class Study:
    """A study that is there.

    >>> study = gr.search.Study("study")
    >>> study.work(minutes=60)
    >>> study.best().to_json()

    Args:
        folder: of :func:`create`.

    Attributes:
        space, tasks, ladder, proposer, seed, configs: the arguments of :func:`create`.

    Raises:
        ValueError: the folder holds no study, one of a newer layout, or a damaged one.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.root = checks.path("study", folder)
        path = self.root / STUDY
        if not path.exists():
            raise ValueError(f"study: folder {str(self.root)!r} holds no study: it has no {STUDY}")
        values = read(path, ("layout",))
        if values["layout"] != LAYOUT:
            raise ValueError(
                f"study: {str(path)!r} has layout {checks.shown(values['layout'])}, and this version of gpurender "
                f"reads layout {LAYOUT}"
            )
        values = read(path, ENTRIES)
        try:
            self.space = Space(values["space"])
            self.tasks = {name: Task.from_json(json.dumps(task)) for name, task in values["tasks"].items()}
            self.ladder = Ladder(**values["ladder"])
            self.proposer = checks.choice("proposer", values["proposer"], PROPOSERS)
            self.seed = checks.integer("seed", values["seed"], 0, checks.UINT64_MAX)
            self.configs = checks.integer("configs", values["configs"], 1, MAX_CONFIGS)
            self.patience = checks.real("patience", values["patience"], 1.0, 86_400.0)
            self._digests = {name: str(values["digests"][name]) for name in self.tasks}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"study: {str(path)!r} is damaged: {error}") from None
        self._folder = Folder(self.root, self.ladder.rungs, list(self.tasks))
        self._repeated: set[int] = set()  # numbers of proposals whose config was there
        self._exhausted = False

    # ------------------------------------------------------------------------------------------------------- working

    def work(self, minutes: float | None = None, *, device: str | torch.device | None = None) -> int:
        """Do jobs until none is left; return how many results this process has made.

        While other processes do the last jobs, this one waits for what their results promote.

        Args:
            minutes: begin no job after so long; ``None``: no limit.
            device: that renders and trains; ``None``: the GPU if there is one.

        Raises:
            ValueError: a task has changed or vanished, or a file of the study is damaged.
            RuntimeError: a package is missing.
            OSError: the disk is full or broken.
        """
        end = None if minutes is None else time.monotonic() + 60.0 * checks.real("minutes", minutes, 0.0, 1e9)
        target = devices.resolve(device)
        models.require_timm()
        engine.accelerator(target, "no", 1)  # raises if Accelerate is missing
        tasks = self._opened()
        self._folder.make()
        done = 0
        while end is None or time.monotonic() < end:
            state = self._state()
            job = self._do_one(state, tasks, target)
            done += job == "published"
            if job is None and not self._propose(state):
                if not any(True for _ in state.jobs()):
                    self._tidy(state)
                    break
                time.sleep(min(1.0, self.patience / 10.0))  # others do the last ones, whose results may promote
        return done

    def _opened(self) -> dict[str, Judged]:
        """Return the tasks with their images.

        Raises:
            ValueError: a task has changed or vanished.
        """
        found = {name: opened(name, task) for name, task in self.tasks.items()}
        for name, one in found.items():
            if digest(one.task, one) != self._digests[name]:
                raise ValueError(
                    f"task {name!r}: {one.task.data} has other classes or labels than when the study was made"
                )
        return found

    def _do_one(self, state: "_State", tasks: Mapping[str, Judged], device: torch.device) -> str | None:
        """Do the first job that nobody does; return what became of it, or ``None`` if there was none."""
        for key, rung in state.jobs():
            with leased(self._folder.lease(key, rung), self.patience) as lease:
                if lease is not None and (key, rung) not in self._folder.results():
                    return self._do(state.configs[key], key, rung, tasks, device, lease)
        return None

    def _do(
        self, config: Config, key: str, rung: int, tasks: Mapping[str, Judged], device: torch.device, lease: Lease
    ) -> str:
        checkpoints = self._folder.checkpoints(key)
        try:
            with self._folder.workroom(key, rung) as room:
                values = trained(config, tasks, self.ladder, rung, checkpoints, room, device)
        except OSError:
            if lease.held():
                raise
            log.warning("config %s, rung %d: another worker has taken it over", key[:8], rung)
            return "lost"  # this process stood still for longer than the patience, and its folder is gone
        published = self._folder.add_result(key, rung, values)
        if values["score"] is None or rung == self.ladder.rungs - 1:  # after it: a kill in between costs no training
            self._folder.remove_states(key)
        said = values["error"] if values["score"] is None else f"score {values['score']:.4f}"
        log.warning("config %s, rung %d: %s", key[:8], rung, said)
        return "published" if published else "known"

    def _propose(self, state: "_State") -> bool:
        """Add the next config, if the study wants more; return whether there may be new jobs."""
        if state.complete:
            return False
        with turn(self.root):  # Optuna's proposals depend on those before
            state = self._state()
            if state.complete:  # another worker added the last one
                return True
            config = self._next_config(state)
            if config is None:
                self._exhausted = True
                publish(self.root / EXHAUSTED, {"configs": len(state.configs)})
            else:
                self._folder.add_config(*config)
        return True

    def _next_config(self, state: "_State") -> tuple[int, Config] | None:
        """Return number and config of the next proposal that is not there yet; ``None`` if there are no more."""
        tried = state.tried() if self.proposer not in ("random", "grid") else ()
        number, in_a_row, proposer = 0, 0, self.proposer
        while in_a_row < REPEATED:
            if number in state.numbers or number in self._repeated:  # the first that is free: a file may have been lost
                number += 1
                continue
            config = proposed(proposer, self.space, self.seed, number, tried)
            if config is None or config.key not in state.configs:
                return None if config is None else (number, config)
            if proposer in ("random", "grid"):
                self._repeated.add(number)
            in_a_row += 1
            proposer = "grid" if self.proposer == "grid" else "random"  # Optuna repeats its favourites
        return None

    def _tidy(self, state: "_State") -> None:
        """Remove what nobody needs any more: states of trainings, and what killed workers have left."""
        names = {f"{key}.{rung}" for key, rung in state.results}
        for name in ("configs", "results", "leases"):
            sweep(self.root / name, names if name == "leases" else (), self.patience)
        self._folder.remove_states()

    # ------------------------------------------------------------------------------------------------------- reading

    def _state(self) -> "_State":
        return _State(self)

    def table(self) -> list[dict[str, Any]]:
        """Return a row for every result, the best first: higher rungs before lower ones, failed configs at the end.

        A row has ``number``, ``key``, ``rung``, ``images``, ``score`` (``None`` for a config that failed), ``error``,
        ``tasks`` (the figures by task and name), ``seconds``, ``model``, ``recipe`` (as JSON values) and ``choices``.
        """
        configs = self._folder.configs()
        rows = []
        for (key, rung), values in self._folder.results().items():
            if key not in configs:
                continue  # its config has not been copied yet
            number, config = configs[key]
            rows.append({
                "number": number, "key": key, "rung": rung, "images": self.ladder.images[rung],
                "score": values["score"], "error": values.get("error"), "tasks": values.get("tasks", {}),
                "seconds": values.get("seconds", {}), "model": config.model,
                "recipe": json.loads(config.recipe.to_json()), "choices": dict(config.choices),
            })  # fmt: skip
        return sorted(rows, key=_place)

    def best(self, task: str | None = None) -> Recipe:
        """Return the recipe of the best config of the highest rung that has results.

        Args:
            task: the one to be best on; ``None``: the mean over all.

        Raises:
            ValueError: there is no such task, or no result yet.
        """
        return self.best_config(task).recipe

    def best_config(self, task: str | None = None) -> Config:
        """Return the best config; see :meth:`best`."""
        if task is not None:
            checks.choice("task", task, tuple(self.tasks))
        rows = [row for row in self.table() if row["score"] is not None]
        if not rows:
            raise ValueError(f"study: {str(self.root)!r} has no results yet: run gpurender search work")
        top = [row for row in rows if row["rung"] == rows[0]["rung"]]
        found = top[0] if task is None else max(top, key=lambda row: (row["tasks"][task]["score"], -row["number"]))
        return self._folder.configs()[found["key"]][1]

    def status(self) -> dict[str, Any]:
        """Return how far the study is.

        ``configs``: proposed so far; ``finished``: those for which nothing is left to do as far as is known;
        ``running``: those that a living worker holds; ``stuck``: those whose worker has ended without a result, which
        the next worker takes over; ``best``: the best row of :meth:`table`, or ``None``; ``results``: per rung;
        ``wanted``: how many configs the study tries; ``done``: whether all jobs are done.
        """
        state = self._state()
        open_jobs = set(state.jobs())
        leases = {job: self._folder.lease(*job) for job in open_jobs}
        held = {job for job, path in leases.items() if path.exists()}
        stuck = {job for job in held if is_stale(leases[job], self.patience)}
        rows = self.table()
        return {
            "configs": len(state.configs),
            "finished": len(state.configs) - len({key for key, _ in open_jobs}),
            "running": len(held - stuck),
            "stuck": len(stuck),
            "best": rows[0] if rows and rows[0]["score"] is not None else None,
            "results": [sum(row["rung"] == rung for row in rows) for rung in range(self.ladder.rungs)],
            "wanted": self.configs,
            "done": state.complete and not open_jobs,
        }


class _State:
    """What the files of a study say at one moment.

    Attributes:
        configs: by key, in the order of their numbers.
        numbers: theirs.
        results: by key and rung.
        complete: whether no config will be added.
    """

    def __init__(self, study: Study) -> None:
        found = study._folder.configs()
        self.results = study._folder.results()
        self.configs = {key: config for key, (_, config) in found.items()}
        self.numbers = {number for number, _ in found.values()}
        self.complete = study._exhausted or len(found) >= min(study.configs, _most(study.root))
        self._ladder = study.ladder
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
            found.append(Tried(config.choices, {r: x for r, x in scores.items() if x is not None}, failed))
        return found

    def _queue_of_each_rung(self) -> Iterator[list[str]]:
        """Yield the keys that come to each rung, in order."""
        queue, complete = list(self.configs), self.complete
        for rung in range(self._ladder.rungs):
            yield queue
            results = [self.results.get((key, rung)) for key in queue]
            scores = [None if result is None else _comparable(result["score"]) for result in results]
            queue = [queue[place] for place in promoted(scores, self._ladder.eta, complete)]
            queue = [key for key in queue if self.results[key, rung]["score"] is not None]  # it failed
            complete = complete and None not in scores


def _most(root: Path) -> int:
    """Return how many configs the space has, as far as is known."""
    path = root / EXHAUSTED
    if not path.exists():
        return MAX_CONFIGS
    return checks.integer("configs", read(path, ("configs",))["configs"], 0, MAX_CONFIGS)


def _comparable(score: float | None) -> float:
    """Return a score as a number: a config that failed is worse than all others."""
    return float("-inf") if score is None else score


def _place(row: Mapping[str, Any]) -> tuple[bool, int, float, int]:
    """Return what a row of the table is sorted by."""
    return row["score"] is None, -row["rung"], -_comparable(row["score"]), row["number"]
