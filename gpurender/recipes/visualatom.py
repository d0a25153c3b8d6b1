"""VisualAtom: grey wavy rings around a nucleus.

Source: Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves" (CVPR 2023),
equations 3 to 10 and table 1, and the authors' released generator.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.visual_atom import MAX_RINGS, MAX_VERTICES, Atoms, draw_centres, render_atoms
from gpurender.numerics.streams import Stream
from gpurender.numerics.unit_circle import cos_sin_table
from gpurender.recipes import published
from gpurender.recipes.base import VARIANTS, Recipe
from gpurender.util import checks, keywords

# Defaults of the parameters that only one variant has or whose defaults differ: released as in the generator's shell
# script ("best practice VisualAtom-1k"), paper as in table 1 of the paper.
DEFAULTS: dict[str, dict[str, Any]] = {
    "released": {"noise_level": (0.0, 4.0), "line_width": (0.0, 0.1), "radius": (10, 60), "oval": (1.0, 2.0)},
    "paper": {"noise_level": (0.0, 1.0), "axes": (1.0, 400.0), "interval": 1.0},
}

# Bounds that together keep every coordinate below 2^20 pixels: 2048 (16 * 2 + 8 + 16) + 16 * 16384 + 20480 by the
# released rule, (16384 + 2048 * 8) (1 + 8 + 16) + 20480 by the paper's; the noise stays within (-1, 1).
MAX_FREQUENCY = 4096
MAX_AMPLITUDE = 4.0
MAX_NOISE = 16.0
MAX_LINE_WIDTH = 16.0
MAX_RADIUS = 16_384
MAX_OVAL = 16.0
MAX_INTERVAL = 8.0
MAX_NUCLEUS = 4.0

# Bounds of the parameters of one class, by name; a parameter is an integer if both of its bounds are.
BOUNDS: dict[str, tuple[float, float]] = {
    "K": (1, MAX_RINGS),
    "q": (3, MAX_VERTICES),
    "n1": (0, MAX_FREQUENCY),
    "n2": (0, MAX_FREQUENCY),
    "lambda1": (-MAX_AMPLITUDE, MAX_AMPLITUDE),
    "lambda2": (-MAX_AMPLITUDE, MAX_AMPLITUDE),
    "eta": (0.0, MAX_NOISE),
    "w": (0.0, MAX_LINE_WIDTH),
    "r0": (0, MAX_RADIUS),
    "oval_x": (0.0, MAX_OVAL),
    "oval_y": (0.0, MAX_OVAL),
    "a1": (0.0, float(MAX_RADIUS)),
    "b1": (0.0, float(MAX_RADIUS)),
}
COLUMNS = {  # columns of a category
    "released": ("K", "q", "n1", "n2", "lambda1", "lambda2", "eta", "w", "r0", "oval_x", "oval_y"),
    "paper": ("K", "q", "n1", "n2", "lambda1", "lambda2", "eta", "a1", "b1"),
}
# Ranges from which the classes are drawn if they are not given.
LAWS = ("orbits", "quantization", "frequencies", "amplitudes", "noise_level", "line_width", "radius", "oval", "axes")
# Names in the published files. These have no amplitudes, which are 1/2 throughout the released program.
PUBLISHED = {
    "Vertex": "q",
    "Line_num": "K",
    "nami 1": "n1",
    "nami 2": "n2",
    "Perlin_noise": "eta",
    "line_width": "w",
    "Center_rad": "r0",
    "Oval_rate_x": "oval_x",
    "Oval_rate_y": "oval_y",
}
PUBLISHED_AMPLITUDE = 0.5


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class VisualAtom(Recipe):
    """Images of atoms: a class is one atom, its instances differ in nucleus, greys and noise.

    Every (low, high) is a range from which each class draws uniformly, for integers both ends included; ``nucleus`` and
    ``line_color`` are drawn per image. ``None`` stands for the default of the variant; parameters of the other variant
    must be left at ``None``.

    ``visualatom-1k`` and ``visualatom-21k`` follow the distribution of the published datasets, but draw other classes
    from it: class 7 of a preset is not the published class 7. :meth:`from_csv` reads the published classes.

    Args:
        classes: number of classes (default 1000, or all the given ones).
        instances: images per class.
        orbits: K, lines around the nucleus, 1 to 2048.
        quantization: q, vertices per line, 3 to 4096.
        frequencies: n1 and n2, integers from 0 to 4096. Released: n2 differs from n1 unless n1 is 0 (or the range
            holds one number).
        amplitudes: lambda1 and lambda2, from -4 to 4.
        noise_level: eta, 0 to 16. Default: (0, 4) released, (0, 1) paper.
        line_width: released; w, pixels added to every radial step, 0 to 16. Not a stroke width. Default (0, 0.1).
        radius: released; r0 of the circle before the first line, integer pixels, 0 to 16384. Default (10, 60).
        oval: released; factors of r0 along x and y, 0 to 16. Default (1, 2).
        axes: paper; a1 and b1, half axes of the first orbit in pixels, 0 to 16384. Default (1, 400).
        interval: paper; c, pixels from orbit to orbit, one number from 0 to 8. Default 1.
        line_thickness: 1, the thickness of a line in pixels; no other is allowed.
        line_color: grey of a line as a fraction of white, within 0 to 1.
        nucleus: p of a centre at (p + 1) / 2 of the canvas, for x and y, within -4 to 4. Released: whole half pixels.
        categories: the classes, each a row of K, q, n1, n2, lambda1, lambda2, eta and, released, w, r0,
            oval_x, oval_y or, paper, a1, b1; the ranges of these parameters must then be left out.
        variant: ``"released"``: each line steps outwards from the previous line by eta + w + waves, plus noise per
            vertex and coordinate; ``"paper"``: each orbit is an ellipse times 1 + waves + noise.

    Two facts about the released generator: its command-line defaults (``noise_level=(2, 6), line_width=(0, 0.01),
    radius=(0, 50)``) differ from the script that made the dataset, and the ranges of eta and r0 have fixed widths, 4
    and 50, from a given minimum.

    Radii are in pixels for every canvas size: on a canvas much smaller than the released 512 some atoms lie entirely
    outside.
    """

    family: ClassVar[str] = "visualatom"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"visualatom-1k": {}, "visualatom-21k": {"classes": 21_000}}
    paper: ClassVar[str] = (
        "Takashima et al., Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves, CVPR 2023, "
        "https://arxiv.org/abs/2303.01112"
    )

    classes: int = None  # type: ignore[assignment]
    instances: int = 1000
    orbits: tuple[int, int] = (1, 200)
    quantization: tuple[int, int] = (200, 1000)
    frequencies: tuple[int, int] = (0, 20)
    amplitudes: tuple[float, float] = (0.5, 0.5)
    noise_level: tuple[float, float] | None = None
    line_width: tuple[float, float] | None = None
    radius: tuple[int, int] | None = None
    oval: tuple[float, float] | None = None
    axes: tuple[float, float] | None = None
    interval: float | None = None
    line_thickness: int = 1
    line_color: tuple[float, float] = (0.0, 1.0)
    nucleus: tuple[float, float] = (-1.0, 1.0)
    categories: Any = None  # after validation: tuple[tuple[float, ...], ...] | None

    def __post_init__(self) -> None:
        if self.categories is None:
            self._default("classes", 1000)
        else:
            self._check_categories()
        super().__post_init__()
        self._take_defaults()
        integers = {
            "orbits": (1, MAX_RINGS),
            "quantization": (3, MAX_VERTICES),
            "frequencies": (0, MAX_FREQUENCY),
            "radius": (0, MAX_RADIUS),
        }
        reals = {
            "amplitudes": (-MAX_AMPLITUDE, MAX_AMPLITUDE),
            "noise_level": (0.0, MAX_NOISE),
            "line_width": (0.0, MAX_LINE_WIDTH),
            "oval": (0.0, MAX_OVAL),
            "axes": (0.0, float(MAX_RADIUS)),
            "line_color": (0.0, 1.0),
            "nucleus": (-MAX_NUCLEUS, MAX_NUCLEUS),
        }
        others = {name for names in DEFAULTS.values() for name in names} - set(DEFAULTS[self.variant])
        for name, bounds in integers.items():
            if name not in others:
                self._set(name, checks.integer_range(name, getattr(self, name), *bounds))
        for name, limits in reals.items():
            if name not in others:
                self._set(name, checks.real_range(name, getattr(self, name), *limits))
        if self.interval is not None:
            self._set("interval", checks.real("interval", self.interval, 0.0, MAX_INTERVAL))
        self._set("line_thickness", checks.integer("line_thickness", self.line_thickness, 1, 1))
        if self.categories is not None:
            self._check_laws()

    def _check_categories(self) -> None:
        columns = COLUMNS[checks.choice("variant", self.variant, VARIANTS)]
        try:
            given = iter(self.categories)
        except Exception:
            raise TypeError(f"categories must be a sequence of rows, got {checks.shown(self.categories)}") from None
        rows = tuple(_category(f"categories[{i}]", row, columns) for i, row in enumerate(given))
        if not rows:
            raise ValueError("categories must hold at least one row, got none")
        self._default("classes", len(rows))
        self._set("classes", checks.integer("classes", self.classes, 1, len(rows)))
        self._set("categories", rows[: self.classes])

    def _check_laws(self) -> None:
        """Refuse ranges that have no effect because the classes are given."""
        usual = {field.name: field.default for field in fields(self)} | DEFAULTS[self.variant]
        for name in LAWS:
            if getattr(self, name) != usual[name]:
                raise ValueError(
                    f"{name} must be left out when categories are given, got {checks.shown(getattr(self, name))}"
                )

    @classmethod
    def from_csv(cls, folder: str | os.PathLike[str], **parameters: Any) -> "VisualAtom":
        """Return the recipe of published class parameters, such as the folder ``param`` of the VisualAtom-1k download.

        Args:
            folder: directory of ``*.csv``, one class per file, one parameter per line, ``name,value``: Vertex (q),
                Line_num (K), nami 1, nami 2 (n1, n2), Perlin_noise (eta), line_width (w), Center_rad (r0), Oval_rate_x,
                Oval_rate_y; other names are ignored (a centre in a file is that of one image). lambda1 and lambda2 are
                1/2, as always in the released program. Classes are in the order of the files' names, including files
                in subfolders.
            parameters: any other parameter of :class:`VisualAtom`.

        Raises:
            ValueError: a file or folder is missing, empty or malformed (the message gives its name and line), or two
                files have the same name.
        """
        if "categories" in parameters:
            raise TypeError("categories must be left out: the files in folder are the categories")
        return cls(categories=published.categories(folder, _read_category), **parameters)

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Write the classes' parameters in the published layout; :meth:`from_csv` reads the same numbers back.

        Args:
            folder: a new or empty directory for the class files, ``00000.csv`` and so on; it gets all or none.

        Raises:
            ValueError: the layout has no place for a parameter (those of ``variant="paper"``, amplitudes other than
                1/2), ``folder`` is not empty, or cannot be written.
        """
        if self.variant != "released":
            raise ValueError(f"variant must be 'released': no layout is published for others, got {self.variant!r}")
        values = self.parameters(np.arange(self.classes))
        for name in ("lambda1", "lambda2"):
            if (values[name] != PUBLISHED_AMPLITUDE).any():
                raise ValueError(
                    f"{name} must be {PUBLISHED_AMPLITUDE} in every class: the published files have no amplitudes, "
                    f"got {values[name][values[name] != PUBLISHED_AMPLITUDE][0]:g}"
                )
        columns = [(label, values[name].tolist()) for label, name in PUBLISHED.items()]

        def text(i: int) -> str:
            return "".join(f"{label},{column[i]!r}\n" for label, column in columns)

        published.write(folder, ((f"{self.class_name(i)}.csv", text(i)) for i in range(self.classes)))

    def _take_defaults(self) -> None:
        """Set missing parameters of the variant to their defaults, and refuse those of the other variant."""
        own = DEFAULTS[self.variant]
        for variant, names in DEFAULTS.items():
            for name in names:
                value = getattr(self, name)
                if name in own and value is None:
                    self._set(name, own[name])
                elif name not in own and value is not None:
                    raise ValueError(
                        f"{name} must be left out (None) with variant={self.variant!r}, got {checks.shown(value)}: "
                        f"it belongs to variant={variant!r}"
                    )

    @classmethod
    def smallest(cls) -> "VisualAtom":
        return cls(classes=64, instances=1, image_size=32, orbits=(4, 4), radius=(4, 8))  # inside the canvas

    @property
    def greys(self) -> tuple[int, int]:
        """``line_color`` in uint8 levels, both ends included."""
        return round(255.0 * self.line_color[0]), round(255.0 * self.line_color[1])

    def canonical(self) -> dict[str, Any]:
        values = super().canonical() | {"line_color": self.greys}
        if self.variant == "released":
            values["nucleus"] = self._half_pixels
        if self.categories is None:
            del values["categories"]
        else:
            values["categories"] = _canonical(self.parameters(np.arange(self.classes)))
        return values

    def _data(self) -> dict[str, Any]:
        values = super()._data()
        if self.categories is None:
            del values["categories"]  # the JSON of recipes without categories has no such entry
        return values

    @property
    def _half_pixels(self) -> tuple[int, int]:
        """Released: the range of the integer ``2 centre - S``."""
        return round(self.nucleus[0] * self.image_size), round(self.nucleus[1] * self.image_size)

    def parameters(self, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Return class parameters by name, ``[N]``: int64 (K, q, n1, n2, r0) or float64; classes: int64 ``[N]``."""
        if self.categories is not None:
            return self._given(classes)
        u = words(self.seed, Stream.CLASS, classes.astype(np.uint64), blocks=3)  # [N, 12]
        drawn: dict[str, np.ndarray] = {
            "K": _integers(u[:, 0], self.orbits),
            "q": _integers(u[:, 1], self.quantization),
            "n1": _integers(u[:, 2], self.frequencies),
            "n2": _integers(u[:, 3], self.frequencies),
            "lambda1": _reals(u[:, 4], self.amplitudes),
            "lambda2": _reals(u[:, 5], self.amplitudes),
            "eta": _reals(u[:, 6], self.noise_level),
        }
        if self.variant == "paper":
            return drawn | {"a1": _reals(u[:, 7], self.axes), "b1": _reals(u[:, 8], self.axes)}
        drawn["n2"] = _others(u[:, 3], self.frequencies, drawn["n1"])
        return drawn | {
            "w": _reals(u[:, 7], self.line_width),
            "r0": _integers(u[:, 8], self.radius),
            "oval_x": _reals(u[:, 9], self.oval),
            "oval_y": _reals(u[:, 10], self.oval),
        }

    def _given(self, classes: np.ndarray) -> dict[str, np.ndarray]:
        table = np.array(self.categories)[classes]  # [N, columns] float64, exact for these integers
        columns = dict(zip(COLUMNS[self.variant], table.T, strict=True))
        return {name: x.astype(np.int64) if _is_integer(name) else x for name, x in columns.items()}

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Atoms:
        """Return the atoms of all classes and their shared tables. (No two images share lines, so none are kept.)"""
        p = self.parameters(np.arange(self.classes))
        axes = _half_axes(p)
        growth = p["w"] if self.variant == "released" else np.full(self.classes, self.interval)
        quantizations, which = np.unique(p["q"], return_inverse=True)
        turns = [np.stack(cos_sin_table(q)).astype(np.float32) for q in quantizations.tolist()]  # [2, q] each
        begins = np.cumsum(quantizations) - quantizations
        cosines, sines = np.concatenate(turns, axis=1)
        host = {
            "rings": p["K"].astype(np.int32),
            "vertices": p["q"].astype(np.int32),
            "frequencies": np.stack([p["n1"], p["n2"]], axis=1).astype(np.int32),
            "axes": axes.astype(np.float32),
            "growth": growth.astype(np.float32),
            "amplitudes": np.stack([p["lambda1"], p["lambda2"]], axis=1).astype(np.float32),
            "noise_levels": p["eta"].astype(np.float32),
            "offsets": begins[which],
            "cosines": cosines,
            "sines": sines,
        }
        tensors = {name: torch.from_numpy(array) for name, array in host.items()}
        return Atoms(**tensors, most_vertices=int(quantizations[-1]), reach=self._reach(p, axes)).to(device)

    def _reach(self, p: dict[str, np.ndarray], axes: np.ndarray) -> float:
        """Return a bound of the coordinates of all vertices of all classes, in pixels; the noise is within (-1, 1)."""
        centre = 0.5 * self.image_size * max(abs(1.0 + side) for side in self.nucleus)
        waves = np.abs(p["lambda1"]) + np.abs(p["lambda2"])
        if self.variant == "released":
            radii = axes.max(axis=1) + p["K"] * (2.0 * p["eta"] + p["w"] + waves)
        else:
            radii = (axes.max(axis=1) + p["K"] * self.interval) * (1.0 + waves + p["eta"])
        return float(centre + radii.max()) + 1.0  # 1: the roundings of float32

    def canvases(
        self,
        catalog: Atoms,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool = False,
        windows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Render uint8 canvases ``[N, 1, image_size, image_size]`` of indices and draw ids, int64 ``[N]`` both.

        ``fresh`` has no effect: everything that an image does not share with its class depends on its draw id.
        ``windows``: int32 ``[N, 4]``, the part of each canvas that is rendered; the rest is undefined.
        """
        images = render_atoms(
            catalog,
            indices // self.instances,
            centres=self._centres(draw_ids),
            draw_ids=draw_ids,
            greys=self.greys,
            seed=self.seed,
            size=self.image_size,
            rule="walk" if self.variant == "released" else "orbits",
            windows=windows,
        )
        return images[:, None]

    def _centres(self, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, 2]: released (S + i) / 2, i an integer (by default in [-S, S]); paper S (p + 1) / 2."""
        whole = self.variant == "released"
        low, high = self._half_pixels if whole else self.nucleus
        return draw_centres(draw_ids, seed=self.seed, size=self.image_size, low=low, high=high, whole=whole)


def _integers(u: np.ndarray, pair: tuple[int, int] | None) -> np.ndarray:
    """Return uniform integers in [low, high] from words."""
    low, high = pair  # type: ignore[misc]
    return low + bounded(u, high - low + 1)


def _reals(u: np.ndarray, pair: tuple[float, float] | None) -> np.ndarray:
    """Return uniform numbers in [low, high) from words; low if the two are equal."""
    low, high = pair  # type: ignore[misc]
    return low + (high - low) * uniform(u)


def _others(u: np.ndarray, pair: tuple[int, int], taken: np.ndarray) -> np.ndarray:
    """Return uniform integers in [low, high] other than ``taken``, unless ``taken`` is 0 or the only one.

    The released generator draws again while n2 = n1 > 0. The result is uniform over the other integers, from which this
    function draws directly.
    """
    low, high = pair
    if low == high:
        return np.full(len(u), low)
    other = _integers(u, (low, high - 1))
    return np.where(taken == 0, _integers(u, pair), other + (other >= taken))


def _half_axes(p: dict[str, np.ndarray]) -> np.ndarray:
    """Return the half axes of the first line, float64 [N, 2]."""
    pair = (p["a1"], p["b1"]) if "a1" in p else (p["r0"] * p["oval_x"], p["r0"] * p["oval_y"])
    return np.stack(pair, axis=1)


def _canonical(p: dict[str, np.ndarray]) -> list[list[Any]]:
    """Return the values of given classes that decide pixels, one row per class: r0 and oval as their product,
    frequencies modulo q (at the vertices the waves are the same), the two waves sorted; reals as float32.
    """
    reals = [p["lambda1"], p["lambda2"], p["eta"], *([p["w"]] if "w" in p else []), *_half_axes(p).T]
    columns = np.array(reals, np.float32).T.tolist()
    integers = np.stack([p["K"], p["q"], p["n1"] % p["q"], p["n2"] % p["q"]], axis=1).tolist()
    return [
        [k, q, *sorted([[n1, lambda1], [n2, lambda2]]), *others]
        for (k, q, n1, n2), (lambda1, lambda2, *others) in zip(integers, columns, strict=True)
    ]


def _is_integer(name: str) -> bool:
    return isinstance(BOUNDS[name][1], int)


def _category(shown: str, row: Any, columns: tuple[str, ...]) -> tuple[float, ...]:
    if not checks.is_sequence(row, len(columns)):
        raise TypeError(f"{shown} must be {len(columns)} numbers, {', '.join(columns)}; got {checks.shown(row)}")
    return tuple(_parameter(f"{shown}: {name}", name, x) for name, x in zip(columns, row, strict=True))


def _parameter(shown: str, name: str, value: Any) -> float:
    """Check a class parameter; whole numbers may be floats such as 500.0, as in an array of floats or a file."""
    low, high = BOUNDS[name]
    if not _is_integer(name):
        return checks.real(shown, value, low, high)
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return checks.integer(shown, whole, int(low), int(high))


def _read_category(path: Path) -> tuple[float, ...]:
    """Read a published class, in the order of COLUMNS."""
    names = {_plain(label): name for label, name in PUBLISHED.items()}
    found: dict[str, float] = {"lambda1": PUBLISHED_AMPLITUDE, "lambda2": PUBLISHED_AMPLITUDE}
    for number, line in published.lines(path):
        label, *cells = line.split(",")
        shown = f"{path}, line {number}: {label.strip()}"
        if len(cells) != 1:
            raise ValueError(f"{path}, line {number}: expected a name, a comma and a number, got {line[:60]!r}")
        name = names.get(_plain(label))
        if name is None:  # the centre of one image, or a note
            continue
        if name in found:
            raise ValueError(f"{shown} is there twice")
        value = published.number(cells[0])
        if value is None:
            raise ValueError(f"{shown} must be a number, got {cells[0][:60]!r}")
        try:
            found[name] = _parameter(shown, name, value)
        except TypeError as error:  # for example 300.5 vertices
            raise ValueError(str(error)) from None
    if missing := [label for label, name in PUBLISHED.items() if name not in found]:
        raise ValueError(f"{path}: a line is missing for {', '.join(missing)}; is the file cut off?")
    return tuple(found[name] for name in COLUMNS["released"])


def _plain(label: str) -> str:
    """Return a name's letters and digits in lower case: "nami 1", "nami_1" and "Nami1" are the same name."""
    return "".join(filter(str.isalnum, label)).lower()
