"""Build: train the experts of a server, one job per expert, by any number of processes that may be killed.

A job is leased as those of a study are (:mod:`gpurender.search.leases`), and its result appears at once: an expert's
file, the lists of an image folder's parts, at the end the catalogue. So the same command, started again or on several
machines that share the folder, goes on with what is left.
"""

import dataclasses
import functools
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpurender.recipes.base import RecipeLike
from gpurender.recipes.base import recipe as as_recipe
from gpurender.runtime import devices
from gpurender.search.leases import leased, sweep
from gpurender.server import catalogue as catalogues
from gpurender.server import partition
from gpurender.server.catalogue import CATALOGUE, Catalogue, Entry, Expert
from gpurender.server.data_server import DataServer
from gpurender.server.experts import FEWEST, Schooling, Shown, judges, last_features, score, trained
from gpurender.server.files import FileList, digest, read_files
from gpurender.server.plan import Plan, claim, name_of, planned
from gpurender.server.rotation import TURNS
from gpurender.server.sources import (
    FilesSource,
    RecipeSource,
    Source,
    check_recipe,
    described,
    few,
    image_names,
    samples_of,
)
from gpurender.tasks import Task
from gpurender.training import checkpoint, engine, models
from gpurender.training.examples import test_transform
from gpurender.util import checks, keywords
from gpurender.util.atomic_files import replacing
from gpurender.util.folder_lock import turn
from gpurender.util.progress import progress

log = logging.getLogger("gpurender")

PATIENCE = 120.0  # seconds after which the job of a silent process on another machine is taken over
WAIT = 1.0  # seconds between two looks at what other processes have done
WORK = "work"  # folder of trainings under way
COMMON = "common"  # the network whose features part an image folder
WEAK = 0.3  # accuracy on its own source below which an expert on rotations has learned next to nothing
SEEN = 2048  # images of a study's task by which experts are scored


@keywords.checked
def build(
    sources: Any,
    output: str | os.PathLike[str],
    *,
    k: int | None = None,
    task: str = "rotation",
    partition: str | None = None,
    model: str = "resnet18",
    image_size: int = 64,
    images: int = 200_000,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> DataServer:
    """Make a data server: K experts, each trained on one source, and their catalogue; return the server.

    A killed build goes on where it was when it is called again with the same arguments; several processes, also on
    other machines that see the folder, may call it at once and share the work.

    Args:
        sources: recipes, each any argument of ``gr.recipe``; or the folder of a study, of which the greedy portfolio
            of K recipes is taken; or a folder of images, in subfolders by class if there are classes.
        output: the server's folder.
        k: how many experts of a study or of an image folder; ``None``: 5.
        task: ``"rotation"``: experts say by how much an image was rotated, and clients need no labels; ``"classify"``:
            experts are trained on classes, and clients need labels.
        partition: of an image folder: ``"superclass"`` or ``"unsupervised"`` (the default).
        model, image_size, images, batch_size, lr, seed: of the training of an expert
            (:class:`gpurender.server.experts.Schooling`).
        device: that renders and trains; ``None``: the GPU if there is one.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; or the folder holds something else.
        RuntimeError: a package is missing, or the memory of the device is too small.
    """
    target = devices.resolve(device)
    root = begin(
        sources, output, k=k, task=task, partition=partition, model=model, image_size=image_size, images=images,
        batch_size=batch_size, lr=lr, seed=seed,
    )  # fmt: skip
    return go_on(root, target)


def begin(
    sources: Any, output: str | os.PathLike[str], *, k: int | None, task: str, partition: str | None, model: str,
    image_size: int, images: int, batch_size: int, lr: float, seed: int,
) -> Path:  # fmt: skip
    """Write the plan of a server into its folder, or see that the one that is there is the same; return the folder.

    The arguments and errors are those of :func:`build`.
    """
    models.require_timm()
    engine.require_accelerate()
    schooling = Schooling(
        task=task, model=model, image_size=image_size, images=images, batch_size=batch_size, lr=lr, seed=seed
    )
    root = checks.path("output", output)
    claim(root, planned(sources, k, partition, schooling, Plan.of(root)))
    return root


def go_on(root: Path, device: torch.device) -> DataServer:
    """Do what is left of a server that was begun, with other processes that do so; return the server.

    Raises:
        ValueError: a file is damaged, or the images have changed.
        RuntimeError: a package is missing, or the memory of the device is too small.
    """
    plan = Plan.of(root)
    if plan is None:
        raise ValueError(f"output: {str(root)!r} is no server that was begun")
    if (root / CATALOGUE).exists():
        shutil.rmtree(root / WORK, ignore_errors=True)  # of a process that was killed after it wrote the catalogue
    else:
        _Builder(root, plan, device).build()
    return DataServer(root)


class _Builder:
    """A process that builds.

    Args:
        root: of the server.
        plan: of what is built.
        device: that trains.
    """

    def __init__(self, root: Path, plan: Plan, device: torch.device) -> None:
        self.root, self.plan, self.device = root, plan, device
        for name in (*self._folders(), WORK):
            (root / name).mkdir(exist_ok=True)

    def _folders(self) -> tuple[str, ...]:
        """Return the folders that stay: that of the leases, too, because other processes may still look into it."""
        return ("experts", "leases", *(() if self.plan.files is None else ("partitions",)))

    def build(self) -> None:
        """Do the jobs that are left, and wait for those that other processes do."""
        if self.plan.files is not None:
            self._until("partition", self._part, lambda: bool(self._parts()))
        sources = self._sources()
        jobs = list(sources.items())
        with progress(total=len(jobs), desc="experts", unit="expert") as bar:
            while left := [(name, source) for name, source in jobs if not self._expert(name).exists()]:
                bar.update(len(jobs) - len(left) - bar.n)
                if not any(self._try(name, functools.partial(self._train, name, source)) for name, source in left):
                    time.sleep(WAIT)
            bar.update(len(jobs) - bar.n)
        self._until("catalogue", lambda: self._publish(sources), (self.root / CATALOGUE).exists)
        self._tidy()

    def _until(self, job: str, do: Callable[[], None], done: Callable[[], bool]) -> None:
        while not done():
            if not self._try(job, lambda: None if done() else do()):
                time.sleep(WAIT)

    def _try(self, job: str, do: Callable[[], None]) -> bool:
        """Do a job unless another process does it; return whether this one did."""
        with leased(self.root / "leases" / job, PATIENCE) as lease:
            if lease is not None:
                do()
            return lease is not None

    def _expert(self, name: str) -> Path:
        return self.root / "experts" / f"{name}.safetensors"

    def _sources(self) -> dict[str, Source]:
        """Return the sources of the experts by name."""
        if self.plan.files is None:
            return {name: RecipeSource(as_recipe(values)) for name, values in self.plan.recipes.items()}
        folder = Path(self.plan.files["folder"])
        return {path.stem: FilesSource(folder, _files(path).names) for path in self._parts()}

    def _train(self, name: str, source: Source) -> None:
        if self._expert(name).exists():
            return
        if self.plan.schooling.task == "classify" and source.classes < FEWEST:
            log.warning("expert %s has images of one class alone, and learns nothing of them: take fewer parts", name)
        about = {"source": name, **described(source)}
        found = trained(source, self.plan.schooling, about, self.root / WORK / name, self.device)
        _copied(found, self._expert(name))
        log.warning("expert %s is trained", name)

    # ------------------------------------------------------------------------------------------------- image folders

    def _parts(self) -> list[Path]:
        """Return the lists of the parts of an image folder, or none before all are there."""
        assert self.plan.files is not None
        found = sorted((self.root / "partitions").glob("part-*.json"))
        return found if len(found) == self.plan.files["k"] else []

    def _part(self) -> None:
        """Write the list of each part's images: [path, bytes] each."""
        assert self.plan.files is not None
        folder, k = Path(self.plan.files["folder"]), self.plan.files["k"]
        names = image_names(folder)
        if len(names) != self.plan.files["images"]:
            raise ValueError(
                f"sources: {str(folder)!r} has {len(names)} images, and it had {self.plan.files['images']} when this "
                "server was begun"
            )
        whole = FilesSource(folder, tuple(names))
        samples = samples_of(folder, names)
        if k == 1:
            parts = np.zeros(len(names), np.int64)
        else:
            found = self._common_features(whole, samples)
            seed = self.plan.schooling.seed
            if self.plan.files["partition"] == "superclass":
                parts = partition.superclasses(found, samples.labels, k, seed)
            else:
                parts = partition.clusters(found, k, seed)
        sizes = [(folder / name).stat().st_size for name in names]
        for part in range(k):
            own = [[names[i], sizes[i]] for i in np.flatnonzero(parts == part)]
            with replacing(self.root / "partitions" / f"part-{part:04d}.json", durable=True) as temporary:
                Path(temporary).write_text(json.dumps(own) + "\n", encoding="utf-8")

    def _common_features(self, whole: FilesSource, samples: Any) -> np.ndarray:
        """Return features of all images, float32 ``[N, C]``, of a network trained on their rotations."""
        size = -(-self.plan.schooling.batch_size // TURNS) * TURNS
        how = dataclasses.replace(self.plan.schooling, task="rotation", batch_size=size)
        path = trained(whole, how, {"source": COMMON}, self.root / WORK / COMMON, self.device)
        made = checkpoint.describe(path)["model"]
        transform = test_transform(made["image_size"], made["mean"], made["std"])
        return last_features(checkpoint.load(path), samples, transform, made["image_size"], self.device)

    # ----------------------------------------------------------------------------------------------------- catalogue

    def _publish(self, sources: dict[str, Source]) -> None:
        """Score the experts, and write the catalogue."""
        names, task = list(sources), self.plan.schooling.task
        experts = tuple(Expert(name, *digest(self._expert(name))) for name in names)
        vectors = np.zeros((len(names), len(names)), np.float64)
        with progress(total=len(names) + len(self.plan.seen), desc="scores", unit="source") as bar:
            for row, source in enumerate(sources.values()):
                vectors[row] = self._scores(source.shown(task == "classify"), names)
                bar.update()
                if task == "rotation" and vectors[row, row] < WEAK:
                    log.warning(
                        "expert %s is right about %.0f %% of the rotations of its own source, and 25 %% is chance: its "
                        "scores say little. Train longer (images=), or use task='classify'",
                        names[row],
                        100 * vectors[row, row],
                    )
            seen = {}
            for name, one in self.plan.seen.items():
                images = few(Task.from_json(json.dumps(one["task"])).samples("train"), SEEN)
                seen[name] = {"scores": self._scores(images, names), "gains": one["gains"]}
                bar.update()
        entries = tuple(self._entry(name, source) for name, source in sources.items())
        kind = "recipes" if self.plan.files is None else "files"
        provenance = {"schooling": dataclasses.asdict(self.plan.schooling), "versions": checkpoint.versions()}
        write(self.root, Catalogue(task, kind, experts, entries, vectors, seen, provenance))

    def _scores(self, samples: Any, names: list[str]) -> list[float]:
        if self.plan.schooling.task == "classify" and not judges(samples):  # a part of one class
            return [0.0] * len(names)
        shown = Shown(samples)
        return [score(self._expert(name), self.plan.schooling.task, shown, self.device) for name in names]

    def _entry(self, name: str, source: Source) -> Entry:
        if isinstance(source, RecipeSource):
            return Entry(name, source.recipe)
        files = _files(self.root / "partitions" / f"{name}.json")
        return Entry(name, None, len(files), int(files.sizes.sum()))

    def _tidy(self) -> None:
        """Remove what nobody needs any more."""
        shutil.rmtree(self.root / WORK, ignore_errors=True)
        for name in self._folders():
            sweep(self.root / name, (), PATIENCE)


def _files(path: Path) -> FileList:
    return read_files(path.read_bytes(), str(path))


def write(root: Path, made: Catalogue) -> None:
    """Write the catalogue of a server's folder."""
    with replacing(root / CATALOGUE, durable=True) as temporary:
        Path(temporary).write_text(made.to_json(), encoding="utf-8")


def _copied(source: Path, target: Path) -> None:
    with replacing(target, durable=True) as temporary:
        shutil.copyfile(source, temporary)


@keywords.checked
def add(
    server: str | os.PathLike[str], recipe: RecipeLike, *, device: str | torch.device | None = None
) -> dict[str, float]:
    """Index a recipe on a server by what the experts make of its images, without training; return these scores.

    (Scalable Neural Data Server, Cao, Bordes, Acuna, Fidler, NeurIPS 2021.)

    Args:
        server: its folder.
        recipe: any argument of ``gr.recipe``.
        device: that computes; ``None``: the GPU if there is one.

    Returns:
        The score of each expert, by name, in [0, 1].

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed; also if the recipe is there.
    """
    root = checks.path("server", server)
    there = DataServer(root)
    if there.catalogue.kind != "recipes":
        raise ValueError(f"server: {str(root)!r} has parts of an image folder, and takes no recipes")
    chosen = check_recipe(as_recipe(recipe))
    _refuse_known(there.catalogue, chosen)
    target = devices.resolve(device)
    samples = RecipeSource(chosen).shown(there.catalogue.task == "classify")
    found = there.scores(samples, target)
    with turn(root):  # others may add meanwhile
        known = catalogues.load(root / CATALOGUE)
        _refuse_known(known, chosen)
        rows = np.vstack([known.vectors, list(found.values())])
        write(root, dataclasses.replace(known, sources=(*known.sources, Entry(name_of(chosen), chosen)), vectors=rows))
    return found


def _refuse_known(there: Catalogue, recipe: Any) -> None:
    if name_of(recipe) in {entry.name for entry in there.sources}:
        raise ValueError(f"recipe: the server has {name_of(recipe)!r} already")
