"""VisualAtom: grey wavy rings around a nucleus.

Source: Takashima et al., "Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves" (CVPR 2023),
equations 3 to 10 and table 1, and the authors' released generator.
"""

import os
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.philox import words
from gpurender.kernels.visual_atom import MAX_RINGS, MAX_VERTICES, Atoms, draw_centres, render_atoms
from gpurender.numerics.streams import Stream
from gpurender.recipes import contours, perturbation
from gpurender.recipes.base import OPTIONS, VARIANTS, Recipe
from gpurender.recipes.onepfrac import OnePFrac
from gpurender.recipes.perturbation import Perturbed
from gpurender.util import checks, keywords

# Defaults of the parameters that only one variant has or whose defaults differ: released as in the generator's shell
# script ("best practice VisualAtom-1k"), paper as in table 1 of the paper.
DEFAULTS: dict[str, dict[str, Any]] = {
    "released": {"noise_level": (0.0, 4.0), "line_width": (0.0, 0.1), "radius": (10, 60), "oval": (1.0, 2.0)},
    "paper": {"noise_level": (0.0, 1.0), "axes": (1.0, 400.0), "interval": 1.0, "noise": "smooth"},
}
NOISES = {"smooth": "smooth orbits", "independent": "orbits"}  # rules of the kernel

# Bounds that together keep every coordinate below 2^20 pixels: 2048 (16 * 2 + 8 + 16) + 16 * 16384 + 20480 by the
# released rule, (16384 + 2048 * 8) (1 + 8 + 16) + 20480 by the paper's; the noise stays within (-1, 1). So does a
# perturbation: at most a quarter more of an axis and of 1 for an amplitude.
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
ADDED = ("categories", "noise", "perturb")  # parameters that JSON states only if they are used: older versions read it
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
PERTURBED = ("half axis along x", "half axis along y", "lambda1", "lambda2")  # the dimensions of a perturbation


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class VisualAtom(Recipe):
    """Images of atoms: a class is one atom, its instances differ in nucleus, greys and noise.

    With ``perturb`` every class is the same atom, its wave moved a little (see below).

    Every (low, high) is a range from which each class draws uniformly, for integers both ends included; ``nucleus`` and
    ``line_color`` are drawn per image. ``None`` stands for the default of the variant; parameters of the other variant
    must be left at ``None``.

    ``visualatom-1k`` and ``visualatom-21k`` follow the distribution of the published datasets, but draw other classes
    from it: class 7 of a preset is not the published class 7. :meth:`from_csv` reads the published classes.

    Args:
        classes: number of classes (default 1000, or all the given ones).
        instances: images per class (default 1000, 1 with ``perturb``).
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
        noise: paper; the noise function of equation 5. ``"smooth"`` (default): a periodic function on the circle, 1-D
            Perlin noise of 32 cells along theta, new for each line; ``"independent"``: a value of its own for each
            vertex. The value at one vertex has the same distribution in both.
        line_thickness: 1, the thickness of a line in pixels; no other is allowed.
        line_color: grey of a line as a fraction of white, within 0 to 1.
        nucleus: p of a centre at (p + 1) / 2 of the canvas, for x and y, within -4 to 4. Released: whole half pixels.
        categories: the classes, each a row of K, q, n1, n2, lambda1, lambda2, eta and, released, w, r0,
            oval_x, oval_y or, paper, a1, b1; the ranges of these parameters must then be left out. With ``perturb``
            one row, the atom.
        perturb: the classes are perturbations of one atom; the side delta of their hypercube, 1e-4 to 0.5.
        variant: ``"released"``: each line steps outwards from the previous line by eta + w + waves, plus noise per
            vertex and coordinate; ``"paper"``: each orbit is an ellipse times 1 + waves + noise.

    **Perturbations** (Nakamura, Tadokoro et al., "Scaling Backwards", ECCV 2024, equations 7 to 9 and table 3, for
    ``gr.losses.LPCE``). The paper perturbs the radius of the wave of one image; it leaves open which parameters these
    are, their units, delta for them, and the image. Chosen: class l has a point epsilon, uniform in [-delta/2,
    delta/2]^4; the half axes are multiplied by 1 + epsilon_1 and 1 + epsilon_2, and lambda1 + epsilon_3, lambda2 +
    epsilon_4 are its amplitudes, because these four make up the radius of a wave as a function of theta. The atom is
    the class 0 that the recipe without ``perturb`` has. Noise, greys and nucleus are those of one image, the same for
    all classes; instance i of all classes shares those of another image. ``fresh=True`` draws a new epsilon around that
    of the class for each image (:mod:`gpurender.recipes.perturbation`). In the preset delta is 0.1, the paper's best
    value for 1p-frac, and the nucleus is in the middle.

    **Noise of the paper's variant.** Equations 5 to 8 define the noise as a function of theta with period 2 pi, and a
    wave on the whole circle before q quantises it; a value of its own for each vertex depends on q and is the
    restriction of no such function, and it turns a contour into spikes up to as long as its radius, of which the
    paper's figures show none. So ``"smooth"`` is nearer. The paper leaves the kind of noise and its frequencies open.
    Chosen: the released generator's Perlin noise over 32 cells per turn, with details about as fine as those of the
    waves (frequencies up to 20) and six or more vertices per cell for every q of table 1.
    JSON written by a version without ``noise`` states all other parameters and keeps its meaning, ``"independent"``.

    Two facts about the released generator: its command-line defaults (``noise_level=(2, 6), line_width=(0, 0.01),
    radius=(0, 50)``) differ from the script that made the dataset, and the ranges of eta and r0 have fixed widths, 4
    and 50, from a given minimum.

    Radii are in pixels for every canvas size: on a canvas much smaller than the released 512 some atoms lie entirely
    outside.
    """

    family: ClassVar[str] = "visualatom"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "visualatom-1k": {},
        "visualatom-21k": {"classes": 21_000},
        "visualatom-lpce-1k": {"perturb": 0.1, "nucleus": (0.0, 0.0)},
    }
    paper: ClassVar[str] = (
        "Takashima et al., Visual Atoms: Pre-training Vision Transformers with Sinusoidal Waves, CVPR 2023, "
        "https://arxiv.org/abs/2303.01112"
    )

    classes: int = None  # type: ignore[assignment]
    instances: int = None  # type: ignore[assignment]
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
    noise: str | None = None
    line_thickness: int = 1
    line_color: tuple[float, float] = (0.0, 1.0)
    nucleus: tuple[float, float] = (-1.0, 1.0)
    categories: Any = None  # after validation: tuple[tuple[float, ...], ...] | None
    perturb: float | None = None

    def __post_init__(self) -> None:
        if self.perturb is not None:
            self._set("perturb", perturbation.checked(self.perturb))
        self._default("instances", 1000 if self.perturb is None else 1)
        if self.categories is not None:
            columns = COLUMNS[checks.choice("variant", self.variant, VARIANTS)]
            rows, classes = contours.given_classes(
                self.categories, self.classes, columns, BOUNDS, self.perturb is not None
            )
            self._set("categories", rows)
            self._set("classes", classes)
        self._default("classes", 1000)
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
        if self.noise is not None:
            self._set("noise", checks.choice("noise", self.noise, tuple(NOISES)))
        self._set("line_thickness", checks.integer("line_thickness", self.line_thickness, 1, 1))
        if self.categories is not None:
            contours.refuse_laws(self, LAWS, DEFAULTS[self.variant])

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
        usual = {"lambda1": PUBLISHED_AMPLITUDE, "lambda2": PUBLISHED_AMPLITUDE}
        rows = contours.read_classes(folder, parameters, PUBLISHED, COLUMNS["released"], BOUNDS, usual)
        return cls(categories=rows, **parameters)

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Write the classes' parameters in the published layout; :meth:`from_csv` reads the same numbers back.

        With ``perturb`` there is one file, of the atom to perturb, and :meth:`from_csv` needs the same ``perturb``.

        Args:
            folder: a new or empty directory for the class files, ``00000.csv`` and so on; it gets all or none.

        Raises:
            ValueError: the layout has no place for a parameter (those of ``variant="paper"``, amplitudes other than
                1/2), ``folder`` is not empty, or cannot be written.
        """
        if self.variant != "released":
            raise ValueError(f"variant must be 'released': no layout is published for others, got {self.variant!r}")
        count = self.classes if self.perturb is None else 1
        values = self._plain_parameters(np.arange(count))
        for name in ("lambda1", "lambda2"):
            if (values[name] != PUBLISHED_AMPLITUDE).any():
                raise ValueError(
                    f"{name} must be {PUBLISHED_AMPLITUDE} in every class: the published files have no amplitudes, "
                    f"got {values[name][values[name] != PUBLISHED_AMPLITUDE][0]:g}"
                )
        contours.write_classes(folder, map(self.class_name, range(count)), PUBLISHED, values)

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

    @property
    def source(self) -> str:
        return self.paper if self.perturb is None else OnePFrac.paper

    def canonical(self) -> dict[str, Any]:
        values = super().canonical() | {"line_color": self.greys}
        if self.variant == "released":
            values["nucleus"] = contours.half_pixels(self.nucleus, self.image_size)
        if self.categories is None:
            del values["categories"]
        else:
            values["categories"] = _canonical(
                self._plain_parameters(np.arange(len(self.categories))), self.perturb is None
            )
        if self.perturb is None:
            del values["perturb"]
        if self.noise != "smooth" or not self._noisy:  # the fingerprint from before there was a choice
            del values["noise"]
        return values

    @property
    def _noisy(self) -> bool:
        """Whether an image could have noise."""
        if self.categories is not None:
            return any(row[COLUMNS[self.variant].index("eta")] > 0.0 for row in self.categories)
        return self.noise_level is not None and self.noise_level[1] > 0.0

    def _data(self) -> dict[str, Any]:
        return {name: value for name, value in super()._data().items() if name not in ADDED or value is not None}

    def _stated(self) -> dict[str, Any]:
        return super()._stated() | {"noise": self.noise}  # a text without it is of an earlier version

    @classmethod
    def _from_data(cls, data: dict[str, Any]) -> "Recipe":
        """Return the recipe of data; complete data without ``noise`` is of a version without smooth noise."""
        before = {field.name for field in fields(cls)} - {*ADDED, *OPTIONS}
        if data.get("variant") == "paper" and "noise" not in data and before <= data.keys():
            data = data | {"noise": "independent"}
        return super()._from_data(data)

    def parameters(self, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Return class parameters by name, ``[N]``: int64 (K, q, n1, n2, r0) or float64; classes: int64 ``[N]``."""
        if self.perturb is None:
            return self._plain_parameters(classes)
        p = self._plain_parameters(np.zeros_like(classes))
        points = self._perturbations.points(torch.from_numpy(classes)).numpy()  # [N, 4]
        across, down = ("a1", "b1") if self.variant == "paper" else ("oval_x", "oval_y")
        moved = {across: p[across] * (1.0 + points[:, 0]), down: p[down] * (1.0 + points[:, 1])}
        return p | moved | {"lambda1": p["lambda1"] + points[:, 2], "lambda2": p["lambda2"] + points[:, 3]}

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return :meth:`parameters` of classes, one dictionary each."""
        return contours.stated(self.parameters(classes))

    @property
    def _perturbations(self) -> perturbation.Law:
        return perturbation.Law(self.seed, self.perturb, self.classes, len(PERTURBED))  # type: ignore[arg-type]

    def _plain_parameters(self, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Return :meth:`parameters` without perturbations."""
        if self.categories is not None:
            return contours.by_name([self.categories[i] for i in classes], COLUMNS[self.variant], BOUNDS)
        u = words(self.seed, Stream.CLASS, classes.astype(np.uint64), blocks=3)  # [N, 12]
        drawn: dict[str, np.ndarray] = {
            "K": contours.integers(u[:, 0], self.orbits),
            "q": contours.integers(u[:, 1], self.quantization),
            "n1": contours.integers(u[:, 2], self.frequencies),
            "n2": contours.integers(u[:, 3], self.frequencies),
            "lambda1": contours.reals(u[:, 4], self.amplitudes),
            "lambda2": contours.reals(u[:, 5], self.amplitudes),
            "eta": contours.reals(u[:, 6], self.noise_level),
        }
        if self.variant == "paper":
            return drawn | {"a1": contours.reals(u[:, 7], self.axes), "b1": contours.reals(u[:, 8], self.axes)}
        drawn["n2"] = _others(u[:, 3], self.frequencies, drawn["n1"])
        return drawn | {
            "w": contours.reals(u[:, 7], self.line_width),
            "r0": contours.integers(u[:, 8], self.radius),
            "oval_x": contours.reals(u[:, 9], self.oval),
            "oval_y": contours.reals(u[:, 10], self.oval),
        }

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Atoms | Perturbed:
        """Return the atoms of all classes and their shared tables. (No two images share lines, so none are kept.)"""
        atoms = self._atoms(self.parameters(np.arange(self.classes))).to(device)
        if self.perturb is None:
            return atoms
        base = self._plain_parameters(np.zeros(1, np.int64))
        if not (_half_axes(base).any() or (base["n1"] % base["q"]).any() or (base["n2"] % base["q"]).any()):
            raise ValueError(
                "perturb changes no image: the atom has no half axes and no waves, so all classes would be one image; "
                "give it a radius or a frequency"
            )
        return Perturbed(self._atoms(base).to(device), atoms)

    def _atoms(self, p: dict[str, np.ndarray]) -> Atoms:
        """Return the table of atoms of given parameters, on the host."""
        return contours.atoms(
            p["q"],
            rings=p["K"],
            frequencies=np.stack([p["n1"], p["n2"]], axis=1),
            axes=_half_axes(p),
            growth=p["w"] if self.variant == "released" else np.full(len(p["K"]), self.interval),
            amplitudes=np.stack([p["lambda1"], p["lambda2"]], axis=1),
            noise_levels=p["eta"],
            reach=self._reach(p),
        )

    def _reach(self, p: dict[str, np.ndarray]) -> float:
        """Return a bound of the coordinates of all vertices of all classes, in pixels; the noise is within (-1, 1)."""
        moved = 2.0 * (self.perturb or 0.0)  # more than perturbations, of classes and of images, add up to
        axes = _half_axes(p).max(axis=1) * (1.0 + moved)
        waves = np.abs(p["lambda1"]) + np.abs(p["lambda2"]) + 2.0 * moved
        if self.variant == "released":
            radii = axes + p["K"] * (2.0 * p["eta"] + p["w"] + waves)
        else:
            radii = (axes + p["K"] * self.interval) * (1.0 + waves + p["eta"])
        return contours.reach(self.nucleus, self.image_size, radii)

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
            rule="walk" if self.variant == "released" else NOISES[self.noise or "smooth"],
            windows=windows,
        )
        return images[:, None]

    def _centres(self, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, 2]: released (S + i) / 2, i an integer (by default in [-S, S]); paper S (p + 1) / 2."""
        whole = self.variant == "released"
        low, high = contours.half_pixels(self.nucleus, self.image_size) if whole else self.nucleus
        return draw_centres(draw_ids, seed=self.seed, size=self.image_size, low=low, high=high, whole=whole)


def moved(atom: Atoms, points: torch.Tensor) -> Atoms:
    """Return an atom moved by perturbations, float64 ``[N, 4]``: N rows, on the same device."""
    axes = (atom.axes.double() * (1.0 + points[:, :2])).float()
    amplitudes = (atom.amplitudes.double() + points[:, 2:]).float()
    return contours.repeated(atom, len(points), axes=axes, amplitudes=amplitudes)


def _others(u: np.ndarray, pair: tuple[int, int], taken: np.ndarray) -> np.ndarray:
    """Return uniform integers in [low, high] other than ``taken``, unless ``taken`` is 0 or the only one.

    The released generator draws again while n2 = n1 > 0. The result is uniform over the other integers, from which this
    function draws directly.
    """
    low, high = pair
    if low == high:
        return np.full(len(u), low)
    other = contours.integers(u, (low, high - 1))
    return np.where(taken == 0, contours.integers(u, pair), other + (other >= taken))


def _half_axes(p: dict[str, np.ndarray]) -> np.ndarray:
    """Return the half axes of the first line, float64 [N, 2]."""
    pair = (p["a1"], p["b1"]) if "a1" in p else (p["r0"] * p["oval_x"], p["r0"] * p["oval_y"])
    return np.stack(pair, axis=1)


def _canonical(p: dict[str, np.ndarray], alike: bool) -> list[list[Any]]:
    """Return the values of given classes that decide pixels, one row per class: r0 and oval as their product,
    frequencies modulo q (at the vertices the waves are the same), reals as float32; the two waves sorted if they are
    ``alike``, not if each has a perturbation of its own.
    """
    order = sorted if alike else list
    reals = [p["lambda1"], p["lambda2"], p["eta"], *([p["w"]] if "w" in p else []), *_half_axes(p).T]
    columns = np.array(reals, np.float32).T.tolist()
    integers = np.stack([p["K"], p["q"], p["n1"] % p["q"], p["n2"] % p["q"]], axis=1).tolist()
    return [
        [k, q, *order([[n1, lambda1], [n2, lambda2]]), *others]
        for (k, q, n1, n2), (lambda1, lambda2, *others) in zip(integers, columns, strict=True)
    ]
