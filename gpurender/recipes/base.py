"""Recipe: a dataset as pure data — frozen, validated, JSON in and out, fingerprinted."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import numpy as np

from gpurender.numerics.streams import LAYOUT
from gpurender.recipes import labels
from gpurender.recipes.order import EpochOrder, PermutedOrder
from gpurender.util import checks
from gpurender.util.lazy import cached_property
from gpurender.util.texts import MARK, read_text

FORMAT = 1  # of the JSON text
MIN_IMAGE_SIZE = 16
MAX_IMAGE_SIZE = 8192
MAX_CLASSES = 10_000_000  # their parameters are held in memory
MAX_INSTANCES = 2**31 - 1
VARIANTS = ("released", "paper")
OPTIONS = ("class_prior", "label_noise")  # of every family; they change labels and numbers, never a picture


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """What every family of images has in common; the families in ``gpurender.recipes`` add their parameters.

    A recipe is a value: two equal recipes are the same dataset, on every machine. ``len(recipe)`` is ``classes *
    instances``; sample ``n`` is instance ``n % instances`` of class ``n // instances``.

    Args:
        classes: number of classes.
        instances: images of a class.
        image_size: side of the square canvas in pixels, 16 to 8192.
        seed: unsigned 64-bit key of all the recipe's randomness.
        variant: ``"released"`` draws as the authors' released generator does, ``"paper"`` as their paper says.
        class_prior: a long tail: how many times more images the first class has than the last, or a weight for each
            class; ``instances`` are then those of the largest (:mod:`gpurender.recipes.labels`).
        label_noise: the probability of a wrong label, or a matrix ``[classes][classes]`` of the probabilities of
            label k for class c.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    families: ClassVar[dict[str, type["Recipe"]]] = {}  # by name: every family announces itself
    family: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # by name: what differs from the family's defaults
    channels: ClassVar[int] = 1

    classes: int = 1000
    instances: int = 1
    image_size: int = 512
    seed: int = 0
    variant: str = "released"
    class_prior: Any = None  # once made: float | tuple[float, ...] | None
    label_noise: Any = None  # once made: float | tuple[tuple[float, ...], ...] | None

    def __init_subclass__(cls) -> None:
        if "family" in vars(cls):  # a user's subclass of a family has inherited the name
            Recipe.families[cls.family] = cls

    def __post_init__(self) -> None:
        if type(self) is Recipe:
            names = ", ".join(f"gr.{family.__name__}" for family in Recipe.families.values())
            raise TypeError(f"Recipe is the base of {names}: use one of these")
        self._set("classes", checks.integer("classes", self.classes, 1, MAX_CLASSES))
        self._set("instances", checks.integer("instances", self.instances, 1, MAX_INSTANCES))
        self._set("image_size", checks.integer("image_size", self.image_size, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE))
        self._set("seed", checks.integer("seed", self.seed, 0, checks.UINT64_MAX))
        self._set("variant", checks.choice("variant", self.variant, VARIANTS))
        self._set("class_prior", labels.checked_prior(self.class_prior, self.classes, self.instances))
        self._set("label_noise", labels.checked_noise(self.label_noise, self.classes))

    def _set(self, name: str, value: Any) -> None:
        """Store a normalised field; only ``__post_init__`` may, a recipe is frozen afterwards."""
        object.__setattr__(self, name, value)

    def _default(self, name: str, value: Any) -> None:
        """Give a field that was left at ``None`` its default."""
        if getattr(self, name) is None:
            self._set(name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={_in_short(getattr(self, field.name))}" for field in fields(self))
        return f"{type(self).__name__}({values})"

    def __len__(self) -> int:
        if self.class_prior is None:
            return self.classes * self.instances
        return self._length

    @cached_property
    def _length(self) -> int:
        return int(self.class_counts().sum())

    def class_counts(self) -> np.ndarray:
        """Images of each class, int64 ``[classes]``; samples are numbered class by class."""
        return labels.class_counts(self.class_prior, self.classes, self.instances)

    @property
    def label_width(self) -> int:
        """Integers per label: 1, or 2 for a mixture with separate labels."""
        return 1

    def joint(self, labels: Any) -> Any:
        """Return labels as numbers of classes: they are, but for a mixture with separate labels."""
        return labels

    def class_name(self, label: int) -> str:
        """Name of a class: its number in at least five digits, as the published folders are named."""
        return f"{label:0{max(5, len(str(self.classes - 1)))}d}"

    def canonical(self) -> dict[str, Any]:
        """All that decides a pixel or a label, and nothing else; a family drops here what its other fields override."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in OPTIONS:
            del values[name]
        counts = self.class_counts() if self.class_prior is not None else None
        if counts is not None and (counts != self.instances).any():
            values["class_counts"] = hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()
        noise = labels.noise_table(self.label_noise, self.classes)
        if noise is not None:
            values["label_noise"] = hashlib.sha256(noise.astype("<i8").tobytes()).hexdigest()
        return values

    def catalog(self, device: Any, cache_bytes: int = 0) -> Any:
        """What the family knows of all its classes: parameters, found or drawn once, and kept on the device.

        ``cache_bytes``: what else it may keep there to draw images faster.
        """
        raise TypeError(f"{type(self).__name__} draws nothing")

    def order(self) -> EpochOrder:
        """Return which sample stands at a position of an epoch."""
        return PermutedOrder(len(self))

    def label_map(self, device: Any) -> Any:
        """Return the tables on a device that say which class and which label a sample has."""
        return labels.LabelMap(self.classes, self.instances, self.seed, self.class_prior, self.label_noise, device)

    def render(self, catalog: Any, label_map: Any, indices: Any, draw_ids: Any, fresh: bool) -> Any:
        """Render canvases of samples: those of a long tail by their indices in the untrimmed dataset.

        Args:
            catalog, label_map: of this recipe, on the device.
            indices, draw_ids: int64 ``[N]`` there.
            fresh: whether everything is drawn again, also what the released dataset shares between images.

        Returns:
            uint8 ``[N, C, S, S]`` on the device. On a GPU nothing here waits for the host.
        """
        dense = label_map.dense_indices(indices)
        if not fresh:
            draw_ids = label_map.dense_draw_ids(indices, dense, draw_ids)
        return self.canvases(catalog, dense, draw_ids, fresh)

    def canvases(self, catalog: Any, indices: Any, draw_ids: Any, fresh: bool) -> Any:
        """Render the canvases of a family, uint8 ``[N, C, S, S]``, of indices in the untrimmed dataset and draw ids,
        int64 ``[N]`` both, on their device, which is the catalog's.
        """
        raise TypeError(f"{type(self).__name__} draws nothing")

    @classmethod
    def smallest(cls) -> "Recipe | None":
        """Return a recipe of the family with small, cheap canvases and at least 32 samples, for trials of kernels;
        ``None``: the family has no kernel of its own.
        """
        return None

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits that change if and only if some image (or label) could: SHA-256 of :meth:`canonical`."""
        text = json.dumps(
            {"layout": LAYOUT, "family": self.family, **self.canonical()}, sort_keys=True, allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The recipe as JSON text; ``Recipe.from_json`` gives back an equal recipe."""
        return json.dumps({"gpurender": FORMAT, **self._data()}, allow_nan=False)

    def _data(self) -> dict[str, Any]:
        """Family and parameters; options that are not used are not mentioned."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        used = {name: value for name, value in values.items() if name not in OPTIONS or value is not None}
        return {"family": self.family, **used}

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> "Recipe":
        """The recipe of what :meth:`_data` returned, without the family."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"{cls.family} has no parameter {checks.shown(unknown[0])}; it has {sorted(known)}")
        return cls(**data)

    @staticmethod
    def from_json(text: str | bytes) -> "Recipe":
        """The recipe of a JSON text, with or without a byte-order mark; parameters left out take their defaults.

        Raises:
            ValueError: the text is not JSON, not a recipe, of a newer format, or holds a value that is not allowed.
        """
        if not isinstance(text, (str, bytes)):
            raise TypeError(f"a recipe's JSON must be text, got {type(text).__name__}")
        if isinstance(text, str):
            text = text.removeprefix(MARK)
        try:
            data = json.loads(text, parse_constant=float, object_pairs_hook=_no_duplicates)
        except RecursionError:
            raise ValueError("not a recipe: the JSON is nested too deeply") from None
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
            raise ValueError(f"not a recipe: {error}") from None
        if not isinstance(data, dict):
            raise ValueError(f"not a recipe: expected a JSON object, got {type(data).__name__}")
        version = data.pop("gpurender", None)
        if version != FORMAT or isinstance(version, bool):
            raise ValueError(
                f"not a recipe: 'gpurender' must be {FORMAT} (the format's version), got {checks.shown(version)}"
            )
        try:
            return from_data(data)
        except (TypeError, ValueError) as error:  # a wrong type inside a text is a wrong text
            raise ValueError(f"not a recipe: {error}") from None


def _in_short(value: Any) -> str:
    """``repr`` of a parameter; of a long table its length alone: 1,000 categories are half a million characters."""
    if isinstance(value, tuple) and (len(value) > 8 or len(repr(value)) > 400):
        return f"<{len(value)} entries>"
    return repr(value)


def from_data(data: Any) -> Recipe:
    """Return the recipe of a JSON object without its version."""
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    family = data.pop("family", None)
    if not isinstance(family, str) or family not in Recipe.families:
        raise ValueError(f"'family' must be one of {sorted(Recipe.families)}, got {checks.shown(family)}")
    return Recipe.families[family]._from_data(data)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the parameter {checks.shown(twice)} is given twice")
    return dict(pairs)


def presets() -> dict[str, Callable[[], Recipe]]:
    """Return what makes the recipe of each preset, by name."""
    families = Recipe.families.values()
    return {name: partial(family, **values) for family in families for name, values in family.presets.items()}


def recipe(x: "Recipe | str | os.PathLike[str]") -> Recipe:
    """Return the recipe that a preset's name, the path of a JSON file or a recipe itself stands for.

    Raises:
        ValueError: neither a preset nor a readable JSON file, or the file holds no recipe.
    """
    if isinstance(x, Recipe):
        return x
    if not isinstance(x, (str, os.PathLike)):
        raise TypeError(f"recipe must be a preset's name, the path of a JSON file or a recipe, got {checks.shown(x)}")
    path = os.fspath(x)
    known = presets()
    if path in known:
        return known[path]()
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"recipe {checks.shown_path(path)} is neither a preset ({', '.join(sorted(known))}) nor a readable JSON "
            f"file: {reason}"
        ) from None
    try:
        return Recipe.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
