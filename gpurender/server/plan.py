"""Plan: which experts a server gets, written before the first one is trained, so that all processes build the same."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpurender.recipes.base import presets
from gpurender.recipes.base import recipe as as_recipe
from gpurender.search.folder import publish, read
from gpurender.search.store import is_address
from gpurender.search.study import STUDY, Study
from gpurender.server.catalogue import LAYOUT, MAX_EXPERTS
from gpurender.server.experts import Schooling
from gpurender.server.partition import SCHEMES
from gpurender.server.portfolio import greedy
from gpurender.server.sources import check_recipe, image_names
from gpurender.util import checks
from gpurender.util.atomic_files import TEMPORARY
from gpurender.util.folder_lock import LOCK

PLAN = "plan.json"
ENTRIES = ("layout", "schooling", "recipes", "files", "seen", "study")
DEFAULT_K = 5  # a portfolio of five has three quarters of the gain of the best of 256 recipes (docs/server.md)


@dataclass(frozen=True)
class Plan:
    """What is built.

    Attributes:
        schooling: how experts are trained.
        recipes: of the experts, as JSON values, by name; empty for files.
        files: ``folder``, ``k``, ``partition`` and ``images`` (how many there were) of an image folder; ``None`` for
            recipes.
        seen: tasks of a study by name: ``task``, its JSON values, and ``gains``, of each recipe over the mean recipe.
        study: ``folder`` and ``k`` of the study that the recipes are of; ``None`` if they were given.
    """

    schooling: Schooling
    recipes: dict[str, dict[str, Any]]
    files: dict[str, Any] | None
    seen: dict[str, dict[str, Any]]
    study: dict[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "layout": LAYOUT, "schooling": dataclasses.asdict(self.schooling), "recipes": self.recipes,
            "files": self.files, "seen": self.seen, "study": self.study,
        }  # fmt: skip

    @classmethod
    def of(cls, root: Path) -> "Plan | None":
        """Return the plan in a server's folder; ``None`` if there is none."""
        if not (root / PLAN).exists():
            return None
        values = read(root / PLAN, ENTRIES)
        try:
            schooling = Schooling(**values["schooling"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"output: {str(root / PLAN)!r} is damaged: {error}") from None
        return cls(schooling, values["recipes"], values["files"], values["seen"], values["study"])


def planned(
    sources: Any, k: int | None, partition: str | None, schooling: Schooling, there: Plan | None = None
) -> Plan:
    """Return the plan for a study's folder, an image folder, or recipes.

    Args:
        sources: a path, the address of a study, a :class:`gpurender.search.Study`, or a sequence of recipes.
        k: how many experts; ``None``: 5, or as many as there are recipes.
        partition: of an image folder, ``"superclass"`` or ``"unsupervised"``; ``None``: unsupervised.
        schooling: how experts are trained.
        there: a plan that was begun. If it is of the same study, it is returned, whatever the study has found since.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    listed = list(sources) if isinstance(sources, (list, tuple)) else [sources]
    if len(listed) == 1 and isinstance(listed[0], Study):
        return _of_study(listed[0], k, partition, schooling, there)
    if len(listed) == 1 and is_address(listed[0]):
        return _of_study(Study(listed[0]), k, partition, schooling, there)
    if len(listed) == 1 and _is_folder(listed[0]):
        folder = Path(listed[0])
        if (folder / STUDY).exists():
            return _of_study(Study(folder), k, partition, schooling, there)
        return _of_folder(folder, k, partition, schooling)
    _refuse_partition(partition)
    return _of_recipes(listed, k, schooling)


def _is_folder(source: Any) -> bool:
    """Return whether a source is a folder, and not the name of a preset, after which an export may be named."""
    return isinstance(source, (str, os.PathLike)) and source not in presets() and Path(source).is_dir()


def _refuse_partition(partition: str | None) -> None:
    if partition is not None:
        raise ValueError(f"partition is for an image folder, and must be left out for recipes, got {partition!r}")


def _of_recipes(given: Sequence[Any], k: int | None, schooling: Schooling) -> Plan:
    if not given or len(given) > MAX_EXPERTS:
        raise ValueError(f"sources must be 1 to {MAX_EXPERTS} recipes, got {len(given)}")
    if k is not None and checks.integer("k", k, 1, MAX_EXPERTS) != len(given):
        raise ValueError(f"k must be {len(given)}, the number of recipes, or left out, got {k}")
    recipes = [check_recipe(as_recipe(recipe)) for recipe in given]
    named = {name_of(recipe): json.loads(recipe.to_json()) for recipe in recipes}
    if len(named) < len(recipes):
        raise ValueError(f"sources must be recipes that differ, got {checks.shown(given)}")
    return Plan(schooling, named, None, {})


def name_of(recipe: Any) -> str:
    """Return the name of a recipe's source: its family and the beginning of its fingerprint."""
    return f"{recipe.family}-{recipe.fingerprint[:12]}"


def _of_study(study: Study, k: int | None, partition: str | None, schooling: Schooling, there: Plan | None) -> Plan:
    _refuse_partition(partition)
    count = DEFAULT_K if k is None else checks.integer("k", k, 1, MAX_EXPERTS)
    origin = {"folder": os.path.abspath(study.root) if study.mirror is None else study.place, "k": count}
    if there is not None and (there.study, there.schooling) == (origin, schooling):
        return there
    best: dict[str, dict[str, Any]] = {}  # the best config of each recipe, by fingerprint, on one rung
    rows = [row for row in study.table() if row["score"] is not None and _can_be_served(row["recipe"])]
    for rung in range(study.ladder.rungs - 1, -1, -1):
        best = {}
        for row in rows:
            if row["rung"] == rung:
                best.setdefault(as_recipe(row["recipe"]).fingerprint, row)
        if len(best) >= count:
            break
    if len(best) < count:
        raise ValueError(
            f"study: {study.place!r} has results of {len(best)} recipes on its lowest rung, and k is {count}: let "
            "it work longer, or give a smaller k"
        )
    found = list(best.values())
    table = np.array([[row["tasks"][name]["score"] for row in found] for name in study.tasks], np.float64)  # [T, C]
    chosen = greedy(table, count)
    recipes = [check_recipe(as_recipe(found[i]["recipe"])) for i in chosen]
    gains = table[:, chosen] - table.mean(1, keepdims=True)
    seen = {
        name: {"task": json.loads(task.to_json()), "gains": row.tolist()}
        for (name, task), row in zip(study.tasks.items(), gains, strict=True)
    }
    named = {name_of(recipe): json.loads(recipe.to_json()) for recipe in recipes}
    return Plan(schooling, named, None, seen, origin)


def _can_be_served(values: Any) -> bool:
    """Return whether a recipe, as JSON values, can be part of the mixture that a server recommends."""
    try:
        check_recipe(as_recipe(values))
    except ValueError:
        return False
    return True


def _of_folder(folder: Path, k: int | None, partition: str | None, schooling: Schooling) -> Plan:
    count = DEFAULT_K if k is None else checks.integer("k", k, 1, MAX_EXPERTS)
    scheme = checks.choice("partition", "unsupervised" if partition is None else partition, SCHEMES)
    names = image_names(folder)
    if count > len(names):
        raise ValueError(f"k must be at most {len(names)}, the images of {str(folder)!r}, got {count}")
    if (scheme == "superclass" or schooling.task == "classify") and not all("/" in name for name in names):
        raise ValueError(
            f"sources: {str(folder)!r} must have one subfolder per class for superclasses and for experts on classes"
        )
    files = {"folder": os.path.abspath(folder), "k": count, "partition": scheme, "images": len(names)}
    return Plan(schooling, {}, files, {})


def claim(root: Path, plan: Plan) -> None:
    """Write the plan into a server's folder, or see that the one that is there is the same.

    Raises:
        ValueError: the folder holds another server, or other files.
    """
    path = root / PLAN
    values = json.loads(json.dumps(plan.values()))
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(not _is_left(entry.name) for entry in root.iterdir())):
            raise ValueError(f"output: folder {str(root)!r} must be new, empty or a server; it has files but no {PLAN}")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"output: folder {str(root)!r} cannot be made: {error.strerror}") from None
        publish(path, values)
    there = read(path, ENTRIES)
    for name in ENTRIES:
        if there[name] != values[name]:
            raise ValueError(
                f"output: {str(root)!r} is a server with another {name}: {checks.shown(there[name])}; choose another "
                "folder, or give the same arguments"
            )


def _is_left(name: str) -> bool:
    """Return whether a file is what a killed or another ``claim`` has left or is writing."""
    return name.startswith((TEMPORARY, LOCK))
