"""Catalogue: what a data server has, as one JSON file that clients read.

    catalogue.json                 this file; written when all experts are there
    experts/NAME.safetensors       the experts
    partitions/NAME.json           of an image folder: the paths and sizes of the images of each expert
    plan.json                      what is built, and how; never changed
    leases/, work/                 of processes that build

What comes from another machine is checked before use: names are letters, digits and dashes, numbers are finite, recipes
are recipes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpurender.recipes.base import Recipe
from gpurender.recipes.base import recipe as as_recipe
from gpurender.server.experts import TASKS
from gpurender.util import checks

LAYOUT = 1
CATALOGUE = "catalogue.json"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_EXPERTS = 1024
MAX_SOURCES = 65_536
ENTRIES = ("layout", "task", "kind", "experts", "sources", "vectors", "seen", "provenance")
KINDS = ("recipes", "files")


@dataclass(frozen=True)
class Expert:
    """A trained model.

    Attributes:
        name: of the expert, and of the source it was trained on.
        sha256: of its file, 64 hex digits.
        bytes: of its file.
    """

    name: str
    sha256: str
    bytes: int

    @property
    def path(self) -> str:
        """Path of the file in the server's folder."""
        return f"experts/{self.name}.safetensors"


@dataclass(frozen=True)
class Entry:
    """A source that can be recommended.

    Attributes:
        name: of the source.
        recipe: of its images; ``None`` for files.
        images, bytes: of files; 0 for a recipe.
    """

    name: str
    recipe: Recipe | None = None
    images: int = 0
    bytes: int = 0

    @property
    def path(self) -> str:
        """Path of the list of its files in the server's folder."""
        return f"partitions/{self.name}.json"


@dataclass(frozen=True)
class Catalogue:
    """What a server has.

    Attributes:
        task: of the experts, ``"rotation"`` or ``"classify"``.
        kind: of the sources, ``"recipes"`` or ``"files"``.
        experts: in a fixed order; scores ``[K]`` are in this order.
        sources: those of the experts first, in their order, then those that were added.
        vectors: what the experts make of each source, float64 ``[sources, K]``.
        seen: tasks of the study: ``"scores"``, of the experts, and ``"gains"``, of their recipes over the study's mean
            recipe on the scale of :func:`gpurender.tasks.normalised`; both lists of K numbers.
        provenance: what the experts were made with.
    """

    task: str
    kind: str
    experts: tuple[Expert, ...]
    sources: tuple[Entry, ...]
    vectors: np.ndarray
    seen: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def scores(self, given: Mapping[str, Any]) -> np.ndarray:
        """Return a client's scores in the order of the experts, float64 ``[K]``.

        Raises:
            TypeError, ValueError: there is not exactly one number from 0 to 1 per expert.
        """
        if not isinstance(given, Mapping):
            raise TypeError(f"scores must be a mapping of experts to numbers, got {checks.shown(given)}")
        names = [expert.name for expert in self.experts]
        for name in given:
            if name not in names:
                raise ValueError(
                    f"scores: this server has no expert {checks.shown(name)}{checks.did_you_mean(str(name), names)}"
                )
        for name in names:
            if name not in given:
                raise ValueError(f"scores must have a number for each of the {len(names)} experts; {name!r} is missing")
        return np.array([checks.real(f"scores[{name!r}]", given[name], 0.0, 1.0) for name in names], np.float64)

    def to_json(self) -> str:
        """Return the catalogue as JSON text; :func:`from_json` is its inverse."""
        return json.dumps({
            "layout": LAYOUT, "task": self.task, "kind": self.kind,
            "experts": [{"name": e.name, "sha256": e.sha256, "bytes": e.bytes} for e in self.experts],
            "sources": [_entry_values(entry) for entry in self.sources],
            "vectors": self.vectors.tolist(), "seen": self.seen, "provenance": self.provenance,
        }, indent=1, allow_nan=False) + "\n"  # fmt: skip


def _entry_values(entry: Entry) -> dict[str, Any]:
    if entry.recipe is None:
        return {"name": entry.name, "images": entry.images, "bytes": entry.bytes}
    recipe = json.loads(entry.recipe.to_json())
    return {"name": entry.name, "recipe": recipe, "fingerprint": entry.recipe.fingerprint}


def load(path: Path) -> Catalogue:
    """Return the catalogue of a server's folder.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(
            f"server: {str(path.parent)!r} has no {path.name}: gpurender experts build has not finished there"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"server: {str(path)!r} cannot be read: {error}") from None
    return from_json(text, str(path))


def from_json(text: str | bytes, where: str) -> Catalogue:
    """Return the catalogue of a JSON text.

    Args:
        text: of :meth:`Catalogue.to_json`.
        where: the text is from, for errors.

    Raises:
        ValueError: it is no catalogue, or one of another layout.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        if values.get("layout") != LAYOUT:
            raise ValueError(f"layout must be {LAYOUT}, got {checks.shown(values.get('layout'))}")
        for name in ENTRIES:
            if name not in values:
                raise ValueError(f"the entry {name!r} is missing")
        return _catalogue(values)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"server: the catalogue {where!r} is damaged: {' '.join(str(error).split())}") from None


def _catalogue(values: dict[str, Any]) -> Catalogue:
    kind = checks.choice("kind", values["kind"], KINDS)
    experts = tuple(_expert(value) for value in _listed("experts", values["experts"], 1, MAX_EXPERTS))
    sources = tuple(_entry(value, kind) for value in _listed("sources", values["sources"], len(experts), MAX_SOURCES))
    if [entry.name for entry in sources[: len(experts)]] != [expert.name for expert in experts]:
        raise ValueError("the first sources must be those of the experts")
    if len({entry.name for entry in sources}) < len(sources):
        raise ValueError("names must differ")
    if kind == "recipes" and len({entry.recipe.fingerprint for entry in sources if entry.recipe}) < len(sources):
        raise ValueError("recipes must differ")
    seen = values["seen"]
    if not isinstance(seen, dict) or not isinstance(values["provenance"], dict):
        raise ValueError("seen and provenance must be objects")
    for name, one in seen.items():
        for entry in ("scores", "gains"):
            _numbers(f"seen[{name!r}].{entry}", one[entry], len(experts))
    vectors = [_numbers("vectors", row, len(experts)) for row in values["vectors"]]
    if len(vectors) != len(sources):
        raise ValueError(f"vectors must have {len(sources)} rows, got {len(vectors)}")
    task = checks.choice("task", values["task"], TASKS)
    table = np.array(vectors, np.float64).reshape(len(sources), len(experts))
    return Catalogue(task, kind, experts, sources, table, seen, values["provenance"])


def _listed(name: str, values: Any, least: int, most: int) -> list[Any]:
    if not isinstance(values, list) or not least <= len(values) <= most:
        raise ValueError(f"{name} must be a list of {least} to {most}")
    return values


def _numbers(name: str, values: Any, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} must be {count} numbers")
    return [checks.real(name, value, -1e9, 1e9) for value in values]


def check_name(name: Any) -> str:
    """Return a name that is safe as that of a file: small letters, digits and dashes, at most 100.

    Raises:
        ValueError: it is another one.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"name must be small letters, digits and dashes, got {checks.shown(name)}")
    return name


def _expert(values: Any) -> Expert:
    if not DIGEST.fullmatch(values["sha256"]):
        raise ValueError(f"sha256 must be 64 hex digits, got {checks.shown(values['sha256'])}")
    return Expert(check_name(values["name"]), values["sha256"], checks.integer("bytes", values["bytes"], 1, 2**40))


def _entry(values: Any, kind: str) -> Entry:
    name = check_name(values["name"])
    if kind == "files":
        images = checks.integer("images", values["images"], 1, 2**40)
        return Entry(name, None, images, checks.integer("bytes", values["bytes"], 0, 2**60))
    if not isinstance(values["recipe"], dict):  # a text could be the path of a file of the client's
        raise ValueError(f"recipe must be an object, got {checks.shown(values['recipe'])}")
    recipe = as_recipe(values["recipe"])
    if recipe.fingerprint != values["fingerprint"]:
        raise ValueError(f"the recipe of {name!r} has another fingerprint here: this gpurender draws other images")
    return Entry(name, recipe)
