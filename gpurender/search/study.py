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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gpurender.recipes.base import Recipe
from gpurender.runtime import devices
from gpurender.search.analysis import costs, finished, pareto
from gpurender.search.board import Board, Claim, LeaseBoard
from gpurender.search.config import Config
from gpurender.search.desk import MAX_CONFIGS, Desk
from gpurender.search.folder import STUDY, Folder, publish, read
from gpurender.search.ladder import Ladder
from gpurender.search.leases import is_stale
from gpurender.search.measures import Judged, judged
from gpurender.search.mirror import LASTING, LEASES, Mirror, cache_folder
from gpurender.search.proposers import OBJECTIVES, PROPOSERS, require_optuna
from gpurender.search.space import Space
from gpurender.search.state import comparable
from gpurender.search.store import is_address
from gpurender.search.trial import trained, trained_together
from gpurender.tasks import Task
from gpurender.training import engine, models
from gpurender.util import checks, keywords
from gpurender.util.atomic_files import TEMPORARY
from gpurender.util.folder_lock import LOCK

__all__ = ["Study", "create"]

log = logging.getLogger("gpurender")

LAYOUT = 1
ENTRIES = ("layout", "space", "tasks", "digests", "ladder", "proposer", "seed", "configs", "patience")
LATER = {"objectives": ["accuracy"]}  # entries that earlier studies do not have, and what they mean there
MAX_GRID = 1_000_000
MAX_TOGETHER = 64


@keywords.checked
def create(
    folder: str | os.PathLike[str],
    space: Space,
    tasks: Mapping[str, Task],
    *,
    ladder: Ladder | None = None,
    proposer: str = "random",
    objectives: Sequence[str] = ("accuracy",),
    configs: int = 64,
    seed: int = 0,
    patience: float = 120.0,
) -> "Study":
    """Make a study and return it; a study of the same arguments that is there already is returned.

    Args:
        folder: new, empty, or that of the same study; or an address for fsspec, such as ``"s3://bucket/study"``: then
            workers on Ray can work, and no others.
        space: what may be chosen.
        tasks: what configs are measured on, by name. A task's validation share is measured in place of its test images.
            Relative paths are made absolute; all workers need the data at the same path.
        ladder: lengths and measures; ``None``: ``Ladder()``.
        proposer: ``"random"``, ``"grid"``, or Optuna's ``"tpe"`` and ``"gp"`` (extra ``search``).
        objectives: ``("accuracy",)``, or ``("accuracy", "seconds")``: then Optuna's proposers look for all configs of
            which none is both better and quicker to train. Which configs go on is decided by the accuracy alone.
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
    aims = _objectives(objectives)
    if proposer == "grid" and (size := space.grid_size()) > MAX_GRID:
        raise ValueError(f"space must have at most {MAX_GRID:,} points for a grid, and it has {size:,}")
    root, mirror = _placed("folder", folder)
    if mirror is not None and not (root / STUDY).exists() and not mirror.store.is_empty():
        mirror.fetch()  # another process may have made the study meanwhile
        if not (root / STUDY).exists():
            raise ValueError(f"folder {mirror.address} must be empty or a study; it has files but no {STUDY}")
    values = {
        "layout": LAYOUT,
        "space": json.loads(space.to_json()),
        "fingerprint": space.fingerprint,
        "tasks": {name: json.loads(task.to_json()) for name, task in placed.items()},
        "digests": {name: digest(task, opened(name, task)) for name, task in placed.items()},
        "ladder": {"images": list(chosen.images), "eta": chosen.eta, "finetune_steps": chosen.finetune_steps,
                   "seeds": chosen.seeds},
        "proposer": proposer,
        "objectives": list(aims),
        "seed": checks.integer("seed", seed, 0, checks.UINT64_MAX),
        "configs": checks.integer("configs", configs, 1, MAX_CONFIGS),
        "patience": checks.real("patience", patience, 1.0, 86_400.0),
    }  # fmt: skip
    _claim(root, values)
    if mirror is not None:
        mirror.create()
        _claim(root, values)  # another process may have made another study there meanwhile
    return Study(root if mirror is None else mirror)


def _placed(name: str, folder: str | os.PathLike[str]) -> tuple[Path, Mirror | None]:
    """Return the path of a study's folder; of an address, the path of its copy on this machine, and its mirror."""
    if not is_address(folder):
        return checks.path(name, folder), None
    address = str(folder)
    mirror = Mirror(address, cache_folder(address))
    mirror.fetch(*LASTING)
    return mirror.root, mirror


def _objectives(given: Any) -> tuple[str, ...]:
    found = tuple(given) if isinstance(given, (list, tuple)) else ()
    if found not in (("accuracy",), tuple(OBJECTIVES)):
        raise ValueError(f"objectives must be ('accuracy',) or ('accuracy', 'seconds'), got {checks.shown(given)}")
    return found


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
    there = {**LATER, "fingerprint": values["fingerprint"], **read(path, ENTRIES)}
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
        folder: of :func:`create`; of an address, configs and results are brought to the user's cache folder.

    Attributes:
        root: the folder; of an address, its copy on this machine.
        mirror: the :class:`gpurender.search.mirror.Mirror` of an address; ``None`` for a folder.
        space, tasks, ladder, proposer, objectives, seed, configs: the arguments of :func:`create`.

    Raises:
        ValueError: the folder holds no study, one of a newer layout, or a damaged one.
    """

    def __init__(self, folder: str | os.PathLike[str] | Mirror) -> None:
        self.root, self.mirror = (folder.root, folder) if isinstance(folder, Mirror) else _placed("study", folder)
        path = self.root / STUDY
        if not path.exists():
            raise ValueError(f"study: folder {self.place!r} holds no study: it has no {STUDY}")
        values = read(path, ("layout",))
        if values["layout"] != LAYOUT:
            raise ValueError(
                f"study: {str(path)!r} has layout {checks.shown(values['layout'])}, and this version of gpurender "
                f"reads layout {LAYOUT}"
            )
        values = {**LATER, **read(path, ENTRIES)}
        try:
            self.space = Space(values["space"])
            self.tasks = {name: Task.from_json(json.dumps(task)) for name, task in values["tasks"].items()}
            self.ladder = Ladder(**values["ladder"])
            self.proposer = checks.choice("proposer", values["proposer"], PROPOSERS)
            self.objectives = _objectives(values["objectives"])
            self.seed = checks.integer("seed", values["seed"], 0, checks.UINT64_MAX)
            self.configs = checks.integer("configs", values["configs"], 1, MAX_CONFIGS)
            self.patience = checks.real("patience", values["patience"], 1.0, 86_400.0)
            self._digests = {name: str(values["digests"][name]) for name in self.tasks}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"study: {str(path)!r} is damaged: {error}") from None
        if values.get("fingerprint", self.space.fingerprint) != self.space.fingerprint:  # earlier studies have none
            raise ValueError(
                f"study: {str(path)!r} has another space than when the study was made: restore it, or make a new study"
            )
        self._folder = Folder(self.root, self.ladder.rungs, list(self.tasks))
        self.desk = Desk(self, self._folder)

    @property
    def place(self) -> str:
        """The address, or the path of the folder."""
        return str(self.root) if self.mirror is None else self.mirror.address

    @property
    def name(self) -> str:
        """The last part of the place."""
        return self.root.resolve().name if self.mirror is None else self.place.rpartition("/")[2]

    # ------------------------------------------------------------------------------------------------------- working

    def work(
        self, minutes: float | None = None, *, device: str | torch.device | None = None, together: int = 1
    ) -> int:  # fmt: skip
        """Do jobs until none is left; return how many results this process has made.

        While other processes do the last jobs, this one waits for what their results promote.

        Args:
            minutes: begin no job after so long; ``None``: no limit.
            device: that renders and trains; ``None``: the GPU if there is one.
            together: how many configs are trained at once, in step, if they see the same batches; each batch is drawn
                once. The results are those of trainings alone.

        Raises:
            ValueError: a task has changed or vanished, or a file of the study is damaged.
            RuntimeError: a package is missing.
            OSError: the disk is full or broken.
        """
        most = checks.integer("together", together, 1, MAX_TOGETHER)
        if self.mirror is not None:  # an object store has neither links nor the times of leases
            raise ValueError(f"study: on {self.place} workers of --engine ray can work, and no others")
        return self.work_for(LeaseBoard(self.desk, most), minutes, device=device)

    def work_for(self, board: Board, minutes: float | None = None, *, device: str | torch.device | None = None) -> int:
        """Do the jobs that a board hands out; see :meth:`work`."""
        end = None if minutes is None else time.monotonic() + 60.0 * checks.real("minutes", minutes, 0.0, 1e9)
        target = devices.resolve(device)
        models.require_timm()
        engine.accelerator(target, "no", 1)  # raises if Accelerate is missing
        tasks = self._opened()
        self._folder.make()
        done = 0
        while end is None or time.monotonic() < end:
            with board.claimed() as claims:
                if len(claims) > 1:
                    self._train(claims, target)
                done += sum(self._do(claim, tasks, target) for claim in claims)
            if not claims:
                if board.is_done():
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

    def _train(self, claims: Sequence[Claim], device: torch.device) -> None:
        """Train the configs of several jobs of a rung in step, before each of them is done."""
        rung = claims[0].job.rung
        log.warning("rung %d: %d configs together", rung, len(claims))
        configs = [(claim.job.config, self._folder.checkpoints(claim.job.key)) for claim in claims]
        trained_together(configs, self.ladder, rung, device)

    def _do(self, claim: Claim, tasks: Mapping[str, Judged], device: torch.device) -> bool:
        """Do a job; return whether its result is new."""
        key, rung, config = claim.job
        checkpoints = self._folder.checkpoints(key)
        try:
            with self._folder.workroom(key, rung) as room:
                values = trained(config, tasks, self.ladder, rung, checkpoints, room, device)
        except OSError:
            if claim.is_held():
                raise
            log.warning("config %s, rung %d: another worker has taken it over", key[:8], rung)
            return False  # this process stood still for longer than the patience, and its folder is gone
        published = claim.publish(values)
        said = values["error"] if values["score"] is None else f"score {values['score']:.4f}"
        log.warning("config %s, rung %d: %s", key[:8], rung, said)
        return published

    # ------------------------------------------------------------------------------------------------------- reading

    def table(self) -> list[dict[str, Any]]:
        """Return a row for every result, the best first: higher rungs before lower ones, failed configs at the end.

        A row has ``number``, ``key``, ``rung``, ``images``, ``score`` (``None`` for a config that failed), ``error``,
        ``tasks`` (the figures by task and name), ``seconds``, ``model``, ``recipe`` (as JSON values) and ``choices``.
        """
        self._refresh()
        return self._rows()

    def _rows(self) -> list[dict[str, Any]]:
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

    def _refresh(self) -> None:
        """Bring what is new at an address here."""
        if self.mirror is not None:
            self.mirror.fetch(*LASTING, LEASES)

    def best(self, task: str | None = None, *, seconds: float | None = None) -> Recipe:
        """Return the recipe of the best config of the highest rung that has results.

        Args:
            task: the one to be best on; ``None``: the mean over all.
            seconds: only configs whose training took at most so long, on all rungs together; ``None``: no limit.

        Raises:
            ValueError: there is no such task, no result yet, or no config that is quick enough.
        """
        return self.best_config(task, seconds=seconds).recipe

    def best_config(self, task: str | None = None, *, seconds: float | None = None) -> Config:
        """Return the best config; see :meth:`best`."""
        if task is not None:
            checks.choice("task", task, tuple(self.tasks))
        if seconds is not None:
            checks.real("seconds", seconds, 0.0, 1e12)
        self._refresh()
        top = self._top(self._rows())
        if not top:
            raise ValueError(f"study: {self.place!r} has no results yet: run gpurender search work")
        quick = [row for row in top if seconds is None or row["training_seconds"] <= seconds]
        if not quick:
            least = min(row["training_seconds"] for row in top)
            raise ValueError(f"seconds: no config was trained within {seconds:g} seconds; the quickest took {least:g}")
        found = quick[0] if task is None else max(quick, key=lambda row: (row["tasks"][task]["score"], -row["number"]))
        return self._folder.configs()[found["key"]][1]

    def front(self) -> list[dict[str, Any]]:
        """Return the rows of the configs of the highest rung of which none is both better and quicker; quickest first.

        ``training_seconds`` of a row are those of all its rungs.
        """
        return self._front(self.table())

    def _front(self, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
        top = self._top(table)
        return [top[place] for place in pareto([(row["training_seconds"], row["score"]) for row in top])]

    def _top(self, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of the highest rung that has results, the best first, with the seconds of all rungs."""
        rows, seconds = finished(table), costs(table)
        return [{**row, "training_seconds": seconds[row["key"]]} for row in rows if row["rung"] == rows[0]["rung"]]

    def status(self) -> dict[str, Any]:
        """Return how far the study is.

        ``configs``: proposed so far; ``finished``: those for which nothing is left to do as far as is known;
        ``running``: those that a living worker holds; ``stuck``: those whose worker has ended without a result, which
        the next worker takes over (of an address all are ``running``: the dispatcher alone knows which worker lives);
        ``best``: the best row of :meth:`table`, or ``None``; ``front``: number, score and seconds of the rows of
        :meth:`front`; ``results``: per rung; ``wanted``: how many configs the study tries; ``done``: whether all jobs
        are done.
        """
        self._refresh()
        state = self.desk.state()
        open_jobs = set(state.jobs())
        leases = {job: self._folder.lease(*job) for job in open_jobs}
        held = {job for job, path in leases.items() if path.exists()}
        stuck = {job for job in held if is_stale(leases[job], self.patience)}
        rows = self._rows()
        return {
            "configs": len(state.configs),
            "finished": len(state.configs) - len({key for key, _ in open_jobs}),
            "running": len(held - stuck),
            "stuck": len(stuck),
            "best": rows[0] if rows and rows[0]["score"] is not None else None,
            "front": [
                {"number": row["number"], "score": row["score"], "seconds": row["training_seconds"]}
                for row in self._front(rows)
            ],
            "results": [sum(row["rung"] == rung for row in rows) for rung in range(self.ladder.rungs)],
            "wanted": self.configs,
            "done": state.complete and not open_jobs,
        }


def _place(row: Mapping[str, Any]) -> tuple[bool, int, float, int]:
    """Return what a row of the table is sorted by."""
    return row["score"] is None, -row["rung"], -comparable(row["score"]), row["number"]
