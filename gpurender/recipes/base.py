"""Recipe: a dataset as pure data, frozen and validated, with JSON input and output and a fingerprint."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np

from gpurender.numerics.streams import LAYOUT
from gpurender.recipes import labels
from gpurender.recipes.order import EpochOrder, PermutedOrder
from gpurender.util import checks
from gpurender.util.lazy import cached_property
from gpurender.util.texts import MARK, read_text

FORMAT = 1  # version of the JSON text
MIN_IMAGE_SIZE = 16
MAX_IMAGE_SIZE = 8192
MAX_CLASSES = 10_000_000  # classes; their parameters are held in memory
MAX_INSTANCES = 2**31 - 1
VARIANTS = ("released", "paper")
OPTIONS = ("class_prior", "label_noise")  # of every family; they change labels and indices, never a canvas


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """Base class of all families of images; the families in ``gpurender.recipes`` add their parameters.

    A recipe is a value: two equal recipes are the same dataset, on every machine. ``len(recipe)`` is ``classes *
    instances``; index ``n`` is instance ``n % instances`` of class ``n // instances``.

    Args:
        classes: number of classes.
        instances: images per class.
        image_size: side of the square canvas in pixels, 16 to 8192.
        seed: unsigned 64-bit key of all the recipe's randomness.
        variant: ``"released"`` follows the authors' released generator, ``"paper"`` follows their paper.
        class_prior: a long tail: the ratio of the images of the first class to those of the last, or one weight per
            class; ``instances`` is then the size of the largest class (:mod:`gpurender.recipes.labels`).
        label_noise: the probability of a wrong label, or a matrix ``[classes][classes]`` with the probability of
            label k for class c.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    families: ClassVar[dict[str, type["Recipe"]]] = {}  # by name; every family registers itself
    family: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # by name: values that differ from the family's defaults
    paper: ClassVar[str] = ""  # the source in short: authors, title, venue and year, link
    channels: ClassVar[int] = 1
    multi_hot: ClassVar[bool] = False  # a label is a row of 0 and 1, float32 [classes]: the classes in the image
    picture: ClassVar[Callable[["Recipe"], bytes | None] | None] = None  # as a PNG file; gpurender.renderer sets it

    classes: int = 1000
    instances: int = 1
    image_size: int = 512
    seed: int = 0
    variant: str = "released"
    class_prior: Any = None  # after validation: float | tuple[float, ...] | None
    label_noise: Any = None  # after validation: float | tuple[tuple[float, ...], ...] | None

    def __init_subclass__(cls) -> None:
        if "family" in vars(cls):  # a user's subclass of a family only inherits the name
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
        """Store a normalised field. Only constructors call this method: a recipe is frozen afterwards."""
        object.__setattr__(self, name, value)

    def _default(self, name: str, value: Any) -> None:
        """Set a field that was left at ``None`` to its default."""
        if getattr(self, name) is None:
            self._set(name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={_in_short(getattr(self, field.name))}" for field in fields(self))
        return f"{type(self).__name__}({values})"

    def _repr_png_(self) -> bytes | None:
        """Return a small contact sheet, which notebooks show, or ``None``."""
        return None if Recipe.picture is None else Recipe.picture(self)

    @property
    def in_short(self) -> str:
        """The family and the sizes, for texts of one line."""
        side = self.image_size
        return f"<{self.family}: {self.classes:,} classes, {len(self):,} images of {side} x {side}>"

    def __len__(self) -> int:
        if self.class_prior is None:
            return self.classes * self.instances
        return self._length

    @cached_property
    def _length(self) -> int:
        return int(self.class_counts().sum())

    def class_counts(self) -> np.ndarray:
        """Return the number of images of each class, int64 ``[classes]``; samples are numbered class by class."""
        return labels.class_counts(self.class_prior, self.classes, self.instances)

    def first_samples(self) -> np.ndarray:
        """Return the first sample of each class, int64 ``[classes]``; for a class without images, where it would be."""
        counts = self.class_counts()
        return np.cumsum(counts) - counts

    @property
    def label_width(self) -> int:
        """Numbers per label: 1; 2 for a mixture with separate labels; one for each class if labels are multi-hot."""
        return 1

    def joint(self, labels: Any) -> Any:
        """Return labels as class numbers: unchanged, except for a mixture with separate labels."""
        return labels

    def class_name(self, label: int) -> str:
        """Return the name of a class: its number in at least five digits, as the published folders are named."""
        return f"{label:0{max(5, len(str(self.classes - 1)))}d}"

    def class_parameters(self, classes: Any) -> list[dict[str, Any]]:
        """Return what decides each of some classes, as JSON values by name.

        For 1p-frac, FractalDB and ExFractalDB: ``maps``, rows of parameters and a probability, as ``base`` and
        ``categories`` take them; for OFDB also ``weights``, which multiply them. ColorFractal, MultiFractal:
        ``systems``, rows of maps. VisualAtom, RCDB: what ``parameters`` returns. Moire: ``frequencies``. Noise:
        ``mean`` and ``covariance``, or ``low`` and ``high``. SingleImage: ``epsilon``. A mixture states those of the
        class's own recipe, a schedule those of its ``stages``. What an instance adds to its class is not among them.
        A search that is still to be made is made, on the CPU.

        Args:
            classes: numbers of classes: an int, a list, a NumPy array or a torch tensor of integers.

        Returns:
            One dictionary for each; an empty one for a family of your own that states nothing.

        Raises:
            TypeError, ValueError: classes are not integers or out of range.
        """
        numbers = checks.integers("classes", classes, self.classes - 1).astype(np.int64)
        return self._class_parameters(numbers) if len(numbers) else []

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return :meth:`class_parameters` of checked classes, int64 ``[N]``, at least one."""
        return [{} for _ in classes]

    def canonical(self) -> dict[str, Any]:
        """Return exactly the values that decide a pixel or a label; a family drops fields overridden by others."""
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
        """Return the parameters of all classes, found or drawn once and kept on the device.

        ``cache_bytes``: further bytes that the catalog may keep on the device to render images faster.
        """
        raise TypeError(f"{type(self).__name__} renders nothing")

    def kept_bytes(self, cache_bytes: int, *, masked: bool = True) -> int:
        """Return the bytes of bitmaps that a catalog keeps within ``cache_bytes`` of the dataset itself, whose images
        repeat.

        ``masked``: whether bitmaps may be kept with their masks; a mixture keeps points alone.
        """
        return 0

    def needs_search(self) -> bool:
        """Return whether rendering begins with a search that may take minutes."""
        return False

    def order(self) -> EpochOrder:
        """Return the order of an epoch: which sample is at each position."""
        return PermutedOrder(len(self))

    def label_map(self, device: Any) -> Any:
        """Return tables on a device that give the class and the label of each sample."""
        return labels.LabelMap(self.classes, self.instances, self.seed, self.class_prior, self.label_noise, device)

    def render(
        self,
        catalog: Any,
        label_map: Any,
        indices: Any,
        draw_ids: Any,
        fresh: bool,
        bits: bool = False,
        windows: Any = None,
    ) -> Any:
        """Render the canvases of samples; a long-tailed dataset uses their indices in the untrimmed dataset.

        Args:
            catalog, label_map: of this recipe, on the device.
            indices, draw_ids: int64 ``[N]`` on the device; one and the same tensor for the dataset itself, whose images
                repeat.
            fresh: whether each image draws all of its randomness, including the part that the released dataset shares
                between images.
            bits: whether canvases of one bit per pixel may be returned as ``BitCanvases``.
            windows: int32 ``[N, 4]`` on the device, top, left, height, width: the only pixels of each canvas that will
                be read. A family may leave the others undefined, or ignore the windows. ``None``: all are read.

        Returns:
            uint8 ``[N, C, S, S]`` on the device. On a GPU this method does not synchronise with the host.
        """
        dense = label_map.dense_indices(indices)
        if draw_ids is indices and not fresh:
            draw_ids = dense
        elif not fresh:
            draw_ids = label_map.dense_draw_ids(indices, dense, draw_ids)
        return self.canvases(catalog, dense, draw_ids, fresh, bits, windows)

    def canvases(self, catalog: Any, indices: Any, draw_ids: Any, fresh: bool, bits: bool, windows: Any) -> Any:
        """Render the canvases of a family; uint8 ``[N, C, S, S]`` on the catalog's device.

        ``indices`` (in the untrimmed dataset), ``draw_ids``: int64 ``[N]`` on the same device; one and the
        same tensor for the dataset itself, whose images repeat. ``bits``, ``windows``: as for :meth:`render`.
        """
        raise TypeError(f"{type(self).__name__} renders nothing")

    @classmethod
    def smallest(cls) -> "Recipe | None":
        """Return a recipe of the family with small, cheap canvases and at least 32 samples, for testing kernels;
        ``None`` if the family has no separate kernel.
        """
        return None

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits that change if and only if an image or a label could change: SHA-256 of ``canonical()``."""
        text = json.dumps(
            {"layout": LAYOUT, "family": self.family, **self.canonical()}, sort_keys=True, allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Return the recipe as JSON text; ``Recipe.from_json`` returns an equal recipe."""
        return json.dumps({"gpurender": FORMAT, **self._data()}, allow_nan=False)

    def _data(self) -> dict[str, Any]:
        """Return the family and the parameters; unused options are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        used = {name: value for name, value in values.items() if name not in OPTIONS or value is not None}
        return {"family": self.family, **used}

    @property
    def source(self) -> str:
        """The paper that this recipe follows, in short; it may be another than that of its family."""
        return self.paper

    def _stated(self) -> dict[str, Any]:
        """Return the parameters that this recipe states, for :func:`recipe` with overrides."""
        return _parameters(self._data())

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> "Recipe":
        """Return the recipe of a :meth:`_data` result without its family."""
        check_parameters(cls.family, data, [field.name for field in fields(cls)])
        return cls(**data)

    @staticmethod
    def from_json(text: str | bytes) -> "Recipe":
        """Return the recipe of a JSON text, with or without a byte-order mark; missing parameters take their defaults.

        Raises:
            ValueError: the text is not JSON, not a recipe, of a newer format, or holds a value that is not allowed.
        """
        return _read(text)[0]


def _in_short(value: Any) -> str:
    """Return the ``repr`` of a parameter; of a long table or text its length (1,000 categories: 500,000 characters)."""
    if isinstance(value, str) and len(value) > 400:
        return f"<{len(value)} characters>"
    if isinstance(value, tuple) and (len(value) > 8 or len(repr(value)) > 400):
        return f"<{len(value)} entries>"
    return repr(value)


def from_data(data: Any) -> Recipe:
    """Return the recipe of a JSON object, with or without a version."""
    if not isinstance(data, Mapping):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    _check_version({"gpurender": FORMAT, **data})
    family = checks.choice("'family'", data.get("family"), sorted(Recipe.families))
    return Recipe.families[family]._from_data(_parameters(data))


def check_parameters(family: str, given: Mapping[Any, Any], known: Iterable[str]) -> None:
    """Refuse a parameter that a family does not have.

    Raises:
        TypeError: as for an unknown keyword.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            hint = checks.did_you_mean(name, known) if isinstance(name, str) else ""
            raise TypeError(f"{family} has no parameter {checks.shown(name)}; it has {', '.join(known)}{hint}")


def _parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a JSON object, without version and family."""
    return {name: value for name, value in data.items() if name not in ("gpurender", "family")}


def _read(text: str | bytes) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a JSON text, and the parameters that the text states."""
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"a recipe's JSON must be text, got {type(text).__name__}")
    if isinstance(text, str):
        text = text.removeprefix(MARK)
    try:
        data = json.loads(text, object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise ValueError("not a recipe: the JSON is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors too
        raise ValueError(f"not a recipe: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"not a recipe: expected a JSON object, got {type(data).__name__}")
    try:
        _check_version(data)
        return from_data(data), _parameters(data)
    except (TypeError, ValueError) as error:  # a value of a wrong type makes the text invalid
        raise ValueError(f"not a recipe: {error}") from None


def _check_version(data: Mapping[str, Any]) -> None:
    if "gpurender" not in data:
        raise ValueError(f"'gpurender' (the format's version) is missing: add \"gpurender\": {FORMAT}")
    version = data["gpurender"]
    if version != FORMAT or isinstance(version, bool):
        raise ValueError(f"'gpurender' must be {FORMAT} (the format's version), got {checks.shown(version)}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the parameter {checks.shown(twice)} is given twice")
    return dict(pairs)


RecipeLike: TypeAlias = Recipe | str | os.PathLike[str] | Mapping[str, Any]  # what :func:`recipe` takes


def presets() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(name for family in Recipe.families.values() for name in family.presets)


def recipe(x: RecipeLike, **overrides: Any) -> Recipe:
    """Return the recipe that an argument stands for, with some of its parameters replaced.

    >>> gr.recipe("onepfrac-1k", classes=10)
    >>> gr.recipe({"family": "onepfrac", "classes": 10})

    Args:
        x: a preset's name; the path of a JSON file; JSON text, which begins with ``{``; a dictionary, as ``json.loads``
            makes it of :meth:`Recipe.to_json`; or a recipe, which is returned unchanged without overrides. JSON must
            state ``"gpurender": 1``, because it may be read by another version of this package; a dictionary may leave
            it out.
        overrides: parameters of the recipe's family (for a mixture ``labels`` and ``weights``). Parameters that neither
            ``x`` nor the overrides state have their defaults, as if the recipe were made anew: ``gr.recipe(
            "fractaldb-1k", patches=20)`` has 2000 instances. A recipe states all of its parameters, so that for a
            recipe the result is that of ``dataclasses.replace``.

    Raises:
        TypeError: ``x`` is something else, a parameter is unknown or has a value of a wrong type.
        ValueError: there is no preset and no readable file of this name, ``x`` holds no recipe, or a value is not
            allowed.
    """
    found, stated = _found(x)
    return type(found)._from_data(stated | overrides) if overrides else found


def is_json(text: str) -> bool:
    """Return whether an argument of :func:`recipe` is JSON text, not a name or a path."""
    return text.removeprefix(MARK).lstrip().startswith("{")


def _found(x: Any) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of an argument, and the parameters that the argument states."""
    if isinstance(x, Recipe):
        return x, x._stated()
    if isinstance(x, Mapping):
        try:
            return from_data(x), _parameters(x)
        except (TypeError, ValueError) as error:
            raise type(error)(f"recipe: {error}") from None
    name = os.fspath(x) if isinstance(x, os.PathLike) else x
    if not isinstance(name, str):
        raise TypeError(
            "recipe must be a preset's name, the path of a JSON file, JSON text, a dictionary or a recipe, "
            f"got {checks.shown(x)}"
        )
    if isinstance(x, str) and is_json(x):
        return _read(x)
    for family in Recipe.families.values():
        if name in family.presets:
            return family(**family.presets[name]), family.presets[name]
    text = _text_of(name)
    try:
        return _read(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _text_of(path: str) -> str:
    """Return the text of a recipe's file; the error is about a preset if the path looks like the name of one."""
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        a_name = os.path.basename(path) == path and not path.lower().endswith(".json")
        meant = isinstance(error, FileNotFoundError) and a_name
        reason = getattr(error, "strerror", None) or error
        known = presets()
        short = sorted(known, key=len)  # "fractaldb" means fractaldb-1k rather than fractaldb-100k
        raise ValueError(
            f"recipe {checks.shown_path(path)} is neither a preset ({', '.join(known)}) nor a "
            + (f"JSON file{checks.did_you_mean(path, short)}" if meant else f"readable JSON file: {reason}")
        ) from None
