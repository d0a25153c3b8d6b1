"""RCDB, the radial contour database: polygons around a centre, one outside the other, on a white ground.

Source: Kataoka et al., "Replacing Labeled Real-Image Datasets with Auto-Generated Contours" (CVPR 2022), and the
authors' released generator.
"""

import functools
import os
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.philox import words
from gpurender.kernels.visual_atom import MAX_GREY, MAX_RINGS, MAX_VERTICES, Atoms, draw_centres, render_atoms
from gpurender.numerics.portable_math import exp
from gpurender.numerics.streams import Stream
from gpurender.recipes import contours, perturbation
from gpurender.recipes.base import VARIANTS, Recipe
from gpurender.recipes.onepfrac import OnePFrac
from gpurender.recipes.perturbation import Perturbed
from gpurender.util import checks, keywords

MEAN_VERTICES = 100.0  # of the exponential distribution
MAX_NOISE = 8.0
MAX_LINE_WIDTH = 16.0
MAX_RADIUS = 16_384
MAX_OVAL = 16.0
MAX_CENTRE = 4.0
WHITE = 255

# Bounds of the parameters of one class. Coordinates stay below 2^20: 2048 (2 * 8 * 0.952 + 8 + 16) + 1.25 * 16 * 16384
# + 20480.
BOUNDS: contours.Bounds = {
    "K": (1, MAX_RINGS),
    "V": (3, MAX_VERTICES),
    "c": (0.0, MAX_NOISE),
    "w": (0.0, MAX_LINE_WIDTH),
    "r0": (0, MAX_RADIUS),
    "oval_x": (0.0, MAX_OVAL),
    "oval_y": (0.0, MAX_OVAL),
}
SHAPE, SIZE = ("K", "V", "c", "w"), ("r0", "oval_x", "oval_y")
PUBLISHED = {  # names in the published files, in their order
    "Vertex": "V",
    "Perlin_noise": "c",
    "line_width": "w",
    "Center_rad": "r0",
    "Line_num": "K",
    "Oval_rate_x": "oval_x",
    "Oval_rate_y": "oval_y",
}
LAWS = ("polygons", "vertices", "noise_level", "line_width")  # from which classes are drawn if they are not given
SIZE_LAWS = ("radius", "oval")
ADDED = ("categories", "perturb")  # parameters that JSON states only if they are used
PERTURBED = ("half axis along x", "half axis along y", "step")  # the dimensions of a perturbation


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class RCDB(Recipe):
    """Images of nested polygons: a class has its own numbers of polygons and vertices, noise and step.

    Every (low, high) is a range from which the parameter is drawn uniformly, for integers both ends included; only the
    vertices have another law. The vertices of the first, unseen polygon lie at x = cx + r0 oval_x cos t, y = cy + r0
    oval_y sin t, t = 2 pi j / V. Each further polygon is the previous one with every vertex moved outwards::

        x += cos t (c + w - 2 c P)        y += sin t (c + w - 2 c P')

    with Perlin noise P, P' at a random abscissa for each vertex and coordinate (:mod:`gpurender.kernels.visual_atom`).

    ``rcdb-1k`` and ``rcdb-21k`` follow the distribution of the published datasets, but draw other classes from it.
    :meth:`from_csv` reads the published classes.

    Args:
        classes: number of classes (default 1000, or all the given ones).
        instances: images per class (default 1000, 1 with ``perturb``).
        polygons: K, polygons per image, 1 to 2048.
        vertices: V, vertices per polygon, 3 to 4096: the integer part of an exponential variate of mean 100, drawn
            again until it is within the range.
        noise_level: c, the coefficient of the noise, 0 to 8; also the mean step of a polygon.
        line_width: w, pixels added to every step, 0 to 16. Not a stroke width: lines are one pixel wide.
        radius: r0, integer pixels, 0 to 16384.
        oval: the paper's resizing factor, of r0 along x and y, 0 to 16.
        greys: levels from which each polygon draws its own, 0 to 4096; above 255 it is white. Default (0, 256): the
            released program draws up to half of its canvas's side, 256 for its 512 pixels.
        centre: p of a centre at (p + 1) / 2 of the canvas, for x and y, within -4 to 4, in whole half pixels. Default
            400 of 512 pixels.
        categories: the classes, each a row of K, V, c, w and, in the paper's variant and with ``perturb``, r0, oval_x,
            oval_y; the ranges of these parameters must then be left out. With ``perturb`` one row.
        perturb: the classes are perturbations of one image; the side delta of their hypercube, 1e-4 to 0.5.
        variant: ``"released"``: radius and resizing factor are drawn for each image; ``"paper"``: for each class.

    **What the paper leaves open.** It names the parameters of a class, among them radius and resizing factor, and gives
    no equation of a vertex, no order of the polygons and no kind of Perlin noise. The released program draws radius and
    resizing factor of a class, writes them to its file, uses them for the class's first image and draws others for each
    further image. Chosen for ``"paper"``: they belong to the class, and everything else is as released.

    **Perturbations** (Nakamura, Tadokoro et al., "Scaling Backwards", ECCV 2024, equations 7 to 9 and table 3, for
    ``gr.losses.LPCE``). The paper perturbs the radii of a polygon; it leaves open which parameters these are, their
    units, delta for them, and the image. Chosen: class l has a point epsilon, uniform in [-delta/2, delta/2]^3; the
    half axes r0 oval_x and r0 oval_y are multiplied by 1 + epsilon_1 and 1 + epsilon_2, and the mean step c + w from
    polygon to polygon by 1 + epsilon_3: these are the radii of all polygons but for the noise. The image is one of
    class 0 of ``variant="paper"``; its noise, greys and centre are the same for all classes, and instance i of all
    classes shares those of another image. ``fresh=True`` draws a new epsilon around that of the class for each image
    (:mod:`gpurender.recipes.perturbation`). In the preset delta is 0.1, the paper's best value for 1p-frac, the centre
    is in the middle, and the seed is one whose polygons, 85 of 62 vertices, fit the canvas.

    Radii are in pixels for every canvas size, as those of :class:`gpurender.VisualAtom` are.
    """

    family: ClassVar[str] = "rcdb"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "rcdb-1k": {},
        "rcdb-21k": {"classes": 21_000},
        "rcdb-lpce-1k": {"perturb": 0.1, "centre": (0.0, 0.0), "seed": 61},
    }
    paper: ClassVar[str] = (
        "Kataoka et al., Replacing Labeled Real-Image Datasets with Auto-Generated Contours, CVPR 2022, "
        "https://arxiv.org/abs/2206.09132"
    )

    classes: int = None  # type: ignore[assignment]
    instances: int = None  # type: ignore[assignment]
    polygons: tuple[int, int] = (1, 200)
    vertices: tuple[int, int] = (3, 200)
    noise_level: tuple[float, float] = (0.0, 4.0)
    line_width: tuple[float, float] = (0.0, 0.1)
    radius: tuple[int, int] = (0, 100)
    oval: tuple[float, float] = (1.0, 2.0)
    greys: tuple[int, int] = (0, 256)
    centre: tuple[float, float] = (-0.78125, 0.78125)
    categories: Any = None  # after validation: tuple[tuple[float, ...], ...] | None
    perturb: float | None = None

    def __post_init__(self) -> None:
        if self.perturb is not None:
            self._set("perturb", perturbation.checked(self.perturb))
        self._default("instances", 1000 if self.perturb is None else 1)
        if self.categories is not None:
            checks.choice("variant", self.variant, VARIANTS)
            rows, classes = contours.given_classes(
                self.categories, self.classes, self._columns, BOUNDS, self.perturb is not None
            )
            self._set("categories", rows)
            self._set("classes", classes)
        self._default("classes", 1000)
        super().__post_init__()
        integers = {"polygons": (1, MAX_RINGS), "vertices": (3, MAX_VERTICES), "radius": (0, MAX_RADIUS)}
        for name, (low, high) in (integers | {"greys": (0, MAX_GREY)}).items():
            self._set(name, checks.integer_range(name, getattr(self, name), low, high))
        reals = {"noise_level": MAX_NOISE, "line_width": MAX_LINE_WIDTH, "oval": MAX_OVAL}
        for name, most in reals.items():
            self._set(name, checks.real_range(name, getattr(self, name), 0.0, most))
        self._set("centre", checks.real_range("centre", self.centre, -MAX_CENTRE, MAX_CENTRE))
        if self.categories is not None:
            contours.refuse_laws(self, (*LAWS, *(SIZE_LAWS if self._sized else ())), {})

    @property
    def _sized(self) -> bool:
        """Whether radius and resizing factor belong to the class."""
        return self.variant == "paper" or self.perturb is not None

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*SHAPE, *SIZE) if self._sized else SHAPE

    @classmethod
    def from_csv(cls, folder: str | os.PathLike[str], **parameters: Any) -> "RCDB":
        """Return the recipe of published class parameters, such as the folder ``param`` that the released program
        writes.

        Args:
            folder: directory of ``*.csv``, one class per file, one parameter per line, ``name,value``: Vertex (V),
                Line_num (K), Perlin_noise (c), line_width (w), Center_rad (r0), Oval_rate_x, Oval_rate_y; other names
                are ignored (a position in a file is that of one image). With ``variant="released"`` the last three are
                read and not used: they are those of one image. Classes are in the order of the files' names, including
                files in subfolders.
            parameters: any other parameter of :class:`RCDB`.

        Raises:
            ValueError: a file or folder is missing, empty or malformed (the message gives its name and line), or two
                files have the same name.
        """
        variant = checks.choice("variant", parameters.get("variant", "released"), VARIANTS)
        sized = variant == "paper" or parameters.get("perturb") is not None
        columns = (*SHAPE, *SIZE) if sized else SHAPE
        return cls(categories=contours.read_classes(folder, parameters, PUBLISHED, columns, BOUNDS, {}), **parameters)

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Write the classes' parameters as the released program does; :meth:`from_csv` reads the same numbers back.

        Center_rad, Oval_rate_x and Oval_rate_y of ``variant="released"`` are, as there, those of the first image of a
        class, and so is in both variants the centre, start_pos_h (y) and start_pos_w (x). With ``perturb`` there is one
        file, of the image to perturb, and :meth:`from_csv` needs the same ``perturb``.

        Args:
            folder: a new or empty directory for the class files, ``00000.csv`` and so on; it gets all or none.

        Raises:
            ValueError: ``folder`` is not empty, or cannot be written.
        """
        count = self.classes if self.perturb is None else 1
        values = self._plain_parameters(np.arange(count))
        first = np.arange(count) * self.instances  # draw ids
        if not self._sized:
            values |= self._sizes(words(self.seed, Stream.NUCLEUS, first.astype(np.uint64), blocks=2)[:, 2:])
        centres = self._centres(torch.from_numpy(first)).double().numpy()  # [K, 2]
        contours.write_classes(
            folder,
            map(self.class_name, range(count)),
            PUBLISHED | {"start_pos_h": "y", "start_pos_w": "x"},
            values | {"x": centres[:, 0], "y": centres[:, 1]},
        )

    @classmethod
    def smallest(cls) -> "RCDB":
        return cls(
            classes=64, instances=1, image_size=32, polygons=(4, 4), vertices=(3, 9), radius=(4, 8), centre=(-0.5, 0.5)
        )  # inside the canvas

    @property
    def source(self) -> str:
        return self.paper if self.perturb is None else OnePFrac.paper

    def canonical(self) -> dict[str, Any]:
        values = super().canonical() | {"centre": contours.half_pixels(self.centre, self.image_size)}
        if self.categories is None:
            del values["categories"]
        else:
            values["categories"] = _canonical(self._plain_parameters(np.arange(len(self.categories))))
        if self.perturb is None:
            del values["perturb"]
        else:  # the image that is perturbed has sizes of its own in both variants
            del values["variant"]
        return values

    def _data(self) -> dict[str, Any]:
        return {name: value for name, value in super()._data().items() if name not in ADDED or value is not None}

    def parameters(self, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Return class parameters by name, ``[N]``: int64 K, V, float64 c, w and, in the paper's variant and with
        ``perturb``, int64 r0, float64 oval_x, oval_y; classes: int64 ``[N]``.

        With ``perturb`` the step c + w of a class differs, and with it w; it may be negative.
        """
        if self.perturb is None:
            return self._plain_parameters(classes)
        p = self._plain_parameters(np.zeros_like(classes))
        points = self._perturbations.points(torch.from_numpy(classes)).numpy()  # [N, 3]
        moved = {"oval_x": p["oval_x"] * (1.0 + points[:, 0]), "oval_y": p["oval_y"] * (1.0 + points[:, 1])}
        return p | moved | {"w": (p["c"] + p["w"]) * (1.0 + points[:, 2]) - p["c"]}

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return :meth:`parameters` of classes, one dictionary each."""
        return contours.stated(self.parameters(classes))

    @property
    def _perturbations(self) -> perturbation.Law:
        return perturbation.Law(self.seed, self.perturb, self.classes, len(PERTURBED))  # type: ignore[arg-type]

    def _plain_parameters(self, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Return :meth:`parameters` without perturbations."""
        if self.categories is not None:
            return contours.by_name([self.categories[i] for i in classes], self._columns, BOUNDS)
        u = words(self.seed, Stream.CLASS, classes.astype(np.uint64), blocks=2)  # [N, 8]
        shape = {
            "K": contours.integers(u[:, 0], self.polygons),
            "V": vertex_numbers(u[:, 1], *self.vertices),
            "c": contours.reals(u[:, 2], self.noise_level),
            "w": contours.reals(u[:, 3], self.line_width),
        }
        return shape | self._sizes(u[:, 4:]) if self._sized else shape

    def _sizes(self, u: Any) -> dict[str, Any]:
        """Return radius and resizing factors from words ``[N, 3 or more]``, an array or a tensor."""
        across, down = contours.reals(u[:, 1], self.oval), contours.reals(u[:, 2], self.oval)
        return {"r0": contours.integers(u[:, 0], self.radius), "oval_x": across, "oval_y": down}

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Atoms | Perturbed:
        """Return the polygons of all classes and their shared tables. (No two images share lines: none are kept.)"""
        atoms = self._atoms(self.parameters(np.arange(self.classes))).to(device)
        if self.perturb is None:
            return atoms
        base = self._plain_parameters(np.zeros(1, np.int64))
        if not (_half_axes(base).any() or (base["c"] + base["w"]).any()):
            raise ValueError(
                "perturb changes no image: its polygons have no radius and no step, so all classes would be one image; "
                "give it a radius or a line_width"
            )
        return Perturbed(self._atoms(base).to(device), atoms)

    def _atoms(self, p: dict[str, np.ndarray]) -> Atoms:
        """Return the table of given parameters on the host: atoms without waves, noise 2 c, growth w - c."""
        none = np.zeros((len(p["K"]), 2))
        return contours.atoms(
            p["V"], rings=p["K"], frequencies=none, axes=_half_axes(p), growth=p["w"] - p["c"], amplitudes=none,
            noise_levels=2.0 * p["c"], reach=self._reach(p),
        )  # fmt: skip

    def _reach(self, p: dict[str, np.ndarray]) -> float:
        """Return a bound of the coordinates of all vertices of all classes, in pixels; the noise is within (-1, 1)."""
        moved = 1.0 + 2.0 * (self.perturb or 0.0)  # more than perturbations, of classes and of images, add up to
        axes = _half_axes(p).max(axis=1) if self._sized else np.array(float(self.radius[1] * self.oval[1]))
        step = 3.0 * p["c"] + np.abs(p["w"])  # of the radius per polygon: at most 2 c of noise beside c + w
        return contours.reach(self.centre, self.image_size, moved * (axes + p["K"] * step))

    def canvases(
        self,
        catalog: Atoms | Perturbed,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Render uint8 canvases ``[N, 1, image_size, image_size]`` of indices and draw ids, int64 ``[N]`` both.

        ``fresh`` has an effect with ``perturb`` only: everything else that an image does not share with its class
        depends on its draw id. ``windows``: int32 ``[N, 4]``, the part of each canvas that is rendered; the rest is
        undefined.
        """
        which = indices // self.instances
        if isinstance(catalog, Perturbed):
            law = self._perturbations if fresh else None
            atoms, which = perturbation.atoms_of(catalog, which, draw_ids, law, moved)
            draw_ids = indices % self.instances
        else:
            atoms = catalog
        images = render_atoms(
            atoms,
            which,
            centres=self._centres(draw_ids),
            draw_ids=draw_ids,
            greys=self.greys,
            seed=self.seed,
            size=self.image_size,
            rule="walk",
            ground=WHITE,
            axes=None if self._sized else self._axes(draw_ids),
            windows=windows,
        )
        return images[:, None]

    def _centres(self, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the centres of images, float32 ``[N, 2]``, x and y in pixels."""
        low, high = contours.half_pixels(self.centre, self.image_size)
        return draw_centres(draw_ids, seed=self.seed, size=self.image_size, low=low, high=high, whole=True)

    def _axes(self, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the half axes of images, float32 ``[N, 2]``; the first two words are the centre's."""
        p = self._sizes(words(self.seed, Stream.NUCLEUS, draw_ids, blocks=2)[:, 2:])
        return torch.stack([p["r0"] * p["oval_x"], p["r0"] * p["oval_y"]], dim=1).float()


def moved(polygons: Atoms, points: torch.Tensor) -> Atoms:
    """Return polygons moved by perturbations, float64 ``[N, 3]``: N rows, on the same device."""
    noise = polygons.noise_levels.double()  # 2 c
    step = polygons.growth.double() + noise  # c + w
    growth = (step * (1.0 + points[:, 2]) - noise).float()
    axes = (polygons.axes.double() * (1.0 + points[:, :2])).float()
    return contours.repeated(polygons, len(points), axes=axes, growth=growth)


def vertex_numbers(u: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return numbers of vertices from words, int64: the integer part of an exponential variate of mean 100, conditional
    on [low, high].

    Formula: P(V = v) is in proportion to r^v, r = e^(-1/100), so P(V < v) = (1 - r^(v - low)) / (1 - r^(high + 1 -
    low)). A word is compared with these probabilities in units of 2^-32, rounded to integers.
    """
    return low + np.searchsorted(_thresholds(low, high), u.astype(np.int64), side="right")


@functools.lru_cache
def _thresholds(low: int, high: int) -> np.ndarray:
    """Return 2^32 P(V < v) for v = low + 1 ... high, int64."""
    below = 1.0 - exp(-np.arange(1, high + 2 - low) / MEAN_VERTICES)
    return np.rint(below[:-1] / below[-1] * 2.0**32).astype(np.int64)


def _half_axes(p: dict[str, np.ndarray]) -> np.ndarray:
    """Return the half axes of the unseen first polygon, float64 [N, 2]; zeros if each image has its own."""
    if "r0" not in p:
        return np.zeros((len(p["K"]), 2))
    return np.stack([p["r0"] * p["oval_x"], p["r0"] * p["oval_y"]], axis=1)


def _canonical(p: dict[str, np.ndarray]) -> list[list[Any]]:
    """Return the values of given classes that decide pixels, one row per class: reals as float32."""
    reals = [2.0 * p["c"], p["w"] - p["c"], *(_half_axes(p).T if "r0" in p else ())]
    columns = np.array(reals, np.float32).T.tolist()
    return [[k, v, *row] for k, v, row in zip(p["K"].tolist(), p["V"].tolist(), columns, strict=True)]
