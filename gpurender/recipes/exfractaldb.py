"""ExFractalDB, MV-FractalDB and 3D-OFDB: views of iterated function systems in space.

Source: Kataoka et al., "Replacing Labeled Real-image Datasets with Auto-generated Contours" (CVPR 2022); Yamada et al.,
"MV-FractalDB: Formula-driven Supervised Learning for Multi-view Image Recognition" (IROS 2021); Nakamura et al.,
"Pre-training Vision Transformers with Very Limited Synthesized Images" (ICCV 2023); and the search, the generator and
the renderer that their authors released.
"""

import math
import os
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.point_cloud import MAX_POINTS, UNITS, SpaceSystems, moments, render_clouds
from gpurender.numerics.streams import LAYOUT, Stream
from gpurender.numerics.unit_circle import cos_sin
from gpurender.recipes import category_files, ifs, published
from gpurender.recipes.base import VARIANTS, Recipe
from gpurender.recipes.ofdb import OFDB
from gpurender.recipes.search import Search, key_of
from gpurender.runtime import dispatch
from gpurender.util import checks, keywords

VIEWPOINTS = ("random", "fixed", "drawn")
WEIGHT_SETS = ("all", "one")
MAX_WEIGHTS = 1024
MAX_WEIGHT = 1e3
MAX_VIEWS = 1_000_000
RING = 12  # the released renderer turns its first camera by a twelfth of a turn, whatever the number of views
PAPER_INSTANCES = 1000
SEARCH_POINTS = 10_000  # steps per candidate, as released, independent of ``points``
SEARCH_BATCH = 1024  # candidates, a tenth of a second of a CPU core
GPU_SEARCH_BATCH = 8192  # candidates; several waves on a GPU's multiprocessors
SEARCH_LIMIT = 50_000  # candidates in a row without a category
MOST_MAPS = 7
TURN = 2**32  # units of an azimuth in a turn
JITTER = math.pi / 360.0 * TURN  # pi degrees

# Sierpinski's tetrahedron, for testing kernels
TETRAHEDRON = tuple(
    (0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5, x, y, z)
    for x, y, z in ((0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5))
)


@dataclass(frozen=True)
class Shapes:
    """The categories of a recipe, on a device.

    Attributes:
        maps: float64 ``[classes, M, 12]``.
        thresholds: int32 ``[classes, M]``, as the kernel expects them.
        counts: int32 ``[classes]``.
        factors: float64 ``[W, 12]``, the instance weights.
    """

    maps: torch.Tensor
    thresholds: torch.Tensor
    counts: torch.Tensor
    factors: torch.Tensor

    def systems(self, category: torch.Tensor, weight: torch.Tensor) -> SpaceSystems:
        """Return the systems of categories times instance weights, int64 ``[N]`` both; multiplied in float64."""
        maps = self.maps[category] * self.factors[weight][:, None]  # [N, M, 12]
        return SpaceSystems(maps.float(), self.thresholds[category], self.counts[category])


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class ExFractalDB(Recipe):
    """Views of random iterated function systems in space, one system ("category") per class.

    A category has 2 to 7 maps x -> A x + t of nine and three parameters U(-1, 1), with probabilities in proportion to
    \\|det A\\|, and is accepted when the variance of each coordinate of its normalised points exceeds
    ``variance_threshold``. A shape is a category times a row of instance weights, which multiply the parameters a to l
    of every map; all views of a shape show the same points: white, one pixel each, over black, upside down as released.

    Args:
        classes: number of categories (default 1000, or all the given ones).
        instances: images per category; default and maximum: weights x views, and 1,000 in the paper's variant with
            random viewpoints. With ``viewpoints="drawn"`` one image per weight.
        weights: ``"all"``, the released file of 145 rows (one parameter at a time times 0.4, 0.5, ..., 1.6), ``"one"``,
            the single row of 3D-OFDB, or a table of 12 columns.
        views: views per shape, 12 (7 in the paper's variant with random viewpoints: 145 x 7 is the first multiple of
            145 above 1,000).
        viewpoints: azimuths of the camera, which always looks at the centroid from distance 4, without elevation.
            ``"random"`` (ExFractalDB): any azimuth. ``"fixed"`` (MV-FractalDB): view v is at v / views of a turn plus
            30 degrees. ``"drawn"`` (3D-OFDB): each image draws one of the ``views`` fixed viewpoints.
        points: steps of the game; the released one stores one point less, as it leaves out the origin.
        variance_threshold: least variance per axis of coordinates normalised to [-1, 1].
        categories: the systems, each as rows of a, b, ..., l (and p), instead of a search; see :meth:`from_csv`.
        variant: ``"released"`` or ``"paper"``, below.

    **Released and paper.** The released renderer has the fixed viewpoints. It adds a jitter of U(-pi, pi) that it takes
    as degrees, although the numbers are radians; ``"released"`` has this jitter of 3.14 degrees, ``"paper"`` has none.
    Had the numbers been taken as radians, every azimuth would be as likely as any other: so the random viewpoints,
    which the authors' notes name for ExFractalDB and no code has, are any azimuth here, in both variants. In the
    released file of weights the last row of i repeats 0.6 instead of 1.6; ``"paper"`` has 1.6. The released scripts
    make 145 x 12 = 1,740 images per category, weight by weight; the paper has 1,000, for which ``"paper"`` goes
    through all weights before it comes to the next view. ``weights="one"`` is the row that the released 3D-OFDB takes,
    the first of the file, a x 0.4; in ``"paper"`` it is all ones.

    **3D-OFDB** has one sample per category, of which training draws one of twelve stored views in every epoch.
    ``viewpoints="drawn"`` with ``fresh=True`` draws the view per epoch, and new points of the same shape as well; with
    ``fresh=False`` the view of each category is drawn once.

    **Diverging shapes.** A weight may make a category diverge. The game then ends (``kernels/point_cloud/cpu.py``) and
    the image is a few pixels. The released program makes such an image, too, or none where it reaches NaN: its later
    images then have other numbers.
    """

    family: ClassVar[str] = "exfractaldb"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "exfractaldb-1k": {},
        "exfractaldb-21k": {"classes": 21_000},
        "mv-fractaldb-1k": {"viewpoints": "fixed"},
        "3d-ofdb-1k": {"weights": "one", "viewpoints": "drawn"},
        "3d-ofdb-21k": {"classes": 21_000, "weights": "one", "viewpoints": "drawn"},
    }
    paper: ClassVar[str] = (
        "Kataoka et al., Replacing Labeled Real-image Datasets with Auto-generated Contours, CVPR 2022, "
        "https://arxiv.org/abs/2206.09132"
    )

    classes: int = None  # type: ignore[assignment]
    instances: int = None  # type: ignore[assignment]
    image_size: int = 224
    weights: str | tuple[tuple[float, ...], ...] = "all"
    views: int = None  # type: ignore[assignment]
    viewpoints: str = "random"
    points: int = 10_000
    variance_threshold: float | None = None
    categories: Any = None  # after validation: tuple[tuple[tuple[float, ...], ...], ...] | None

    def __post_init__(self) -> None:
        self._set("variant", checks.choice("variant", self.variant, VARIANTS))
        self._set("viewpoints", checks.choice("viewpoints", self.viewpoints, VIEWPOINTS))
        self._default("views", 7 if self._by_view else 12)
        self._set("views", checks.integer("views", self.views, 1, MAX_VIEWS))
        self._check_weights()
        self._check_categories()
        most = len(self.factors()) * self._repeats
        self._default("instances", min(most, PAPER_INSTANCES) if self._by_view else most)
        super().__post_init__()
        if self.instances > most:
            shown = (
                "one per weight" if self._repeats == 1 else f"weights x views = {len(self.factors())} x {self.views}"
            )
            raise ValueError(f"instances must be at most {shown} = {most}, got {self.instances}")
        self._set("points", checks.integer("points", self.points, 2, MAX_POINTS))

    def _check_weights(self) -> None:
        if isinstance(self.weights, str):
            checks.choice("weights", self.weights, WEIGHT_SETS)
            return
        self._set("weights", checks.table("weights", self.weights, (12,), MAX_WEIGHTS, -MAX_WEIGHT, MAX_WEIGHT))

    def _check_categories(self) -> None:
        if self.categories is None:
            self._default("classes", 1000)
            self._default("variance_threshold", 0.05)
            self._set("variance_threshold", checks.real("variance_threshold", self.variance_threshold, 0.0, 1.0))
            return
        if self.variance_threshold is not None:
            raise ValueError(
                "variance_threshold must be left out when categories are given, got "
                f"{checks.shown(self.variance_threshold)}"
            )
        systems = ifs.given_systems(self.categories, ifs.SPACE)
        self._default("classes", len(systems))
        self._set("classes", checks.integer("classes", self.classes, 1, len(systems)))
        self._set("categories", systems[: self.classes])

    @classmethod
    def from_csv(cls, folder: str | os.PathLike[str], weights: Any = "all", **parameters: Any) -> "ExFractalDB":
        """Return the recipe of category files, as the released search writes them.

        Args:
            folder: directory of ``*.csv``, one category per file, one map per row: a, b, ..., l, p. Files in subfolders
                are read too. Classes are in the order of the files' names, independent of their folders. Hidden files
                and folders are left out.
            weights: a weights file (12 columns), or as for :class:`ExFractalDB`.
            parameters: any other parameter of :class:`ExFractalDB`.

        Raises:
            ValueError: a file or folder is missing, empty or malformed (the message gives its name and line), or two
                files have the same name.
        """
        categories = category_files.read_categories(folder, parameters, "variance_threshold", ifs.SPACE)
        weights = published.weights_argument(weights, WEIGHT_SETS, ifs.SPACE)
        return cls(categories=categories, weights=weights, **parameters)

    def to_csv(self, folder: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> None:
        """Write the categories as the released search writes them; :meth:`from_csv` reads the same numbers back.

        Categories that are not given are searched first, on the CPU, unless a search has found them already.

        Args:
            folder: a new or empty directory for the category files, ``00000.csv`` and so on; it gets all or none.
            weights: a file to write the instance weights to, outside ``folder``; ``None``: they are not written.

        Raises:
            ValueError: a folder or file cannot be written, or ``folder`` is not empty.
        """
        systems = self.categories or ifs.rows_of(*self._tables(torch.device("cpu")))
        names = map(self.class_name, range(self.classes))
        category_files.write_categories(folder, zip(names, systems, strict=True), weights, self.factors())

    @classmethod
    def smallest(cls) -> "ExFractalDB":
        return cls(categories=[TETRAHEDRON], points=1000, image_size=32)

    def factors(self) -> tuple[tuple[float, ...], ...]:
        """Return the instance weights as a table, ``[weights][12]``."""
        if not isinstance(self.weights, str):
            return self.weights
        rows = weight_set(self.variant)
        if self.weights == "all":
            return rows
        return rows[:1] if self.variant == "released" else ((1.0,) * 12,)

    @property
    def _repeats(self) -> int:
        """Images per weight."""
        return 1 if self.viewpoints == "drawn" else self.views

    @property
    def _by_view(self) -> bool:
        """Whether the instances go through all weights before the next view."""
        return self.variant == "paper" and self.viewpoints == "random"

    def _places(self, instance: Any) -> tuple[Any, Any]:
        """Return weight and view of instances, an int or int64 ``[N]``."""
        if self._by_view:
            rows = len(self.factors())
            return instance % rows, instance // rows
        return instance // self._repeats, instance % self._repeats

    @property
    def source(self) -> str:
        return OFDB.paper if self.viewpoints == "drawn" else self.paper

    def canonical(self) -> dict[str, Any]:
        values = super().canonical()
        used = min(self.instances, len(self.factors())) if self._by_view else self._places(self.instances - 1)[0] + 1
        values["weights"] = self.factors()[:used]
        alike = self.instances == 1 or (self.viewpoints == "random" and (self._by_view or used == 1))
        if alike and self.viewpoints != "drawn":  # then no image depends on the number of views
            del values["views"]
        if self.viewpoints == "random" and used == 1:  # then the order of weights and views is the same
            del values["variant"]
        if self.categories is None:
            return values
        del values["variance_threshold"]
        values["categories"] = [ifs.used_maps(rows) for rows in self.categories]
        return values

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Shapes:
        """Return the categories' systems; the result of a search is cached on disk."""
        maps, probabilities, counts = self._tables(device)
        return Shapes(
            torch.from_numpy(maps).to(device),
            torch.from_numpy(ifs.thresholds(probabilities)).to(device),
            torch.from_numpy(counts.astype(np.int32)).to(device),
            torch.tensor(self.factors(), dtype=torch.float64, device=device),
        )

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``maps`` of classes: the category, rows of a, b, ..., l and p, before its instance weights."""
        return ifs.stated(*self._tables(torch.device("cpu"), classes))

    def _tables(
        self, device: torch.device, classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return maps float64 [N, M, 12], probabilities [N, M], counts [N] of classes (by default all), given or
        searched.
        """
        which = np.arange(self.classes) if classes is None else classes
        if self.categories is not None:
            return ifs.padded([self.categories[number] for number in which])
        return candidates(self.seed, np.array(self._search(device).ids(self.classes))[which])

    def canvases(
        self,
        catalog: Shapes,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Render uint8 ``[N, 1, image_size, image_size]`` canvases; indices and draw ids: int64 ``[N]``."""
        category, instance = indices // self.instances, indices % self.instances
        weight, view = self._places(instance)
        cosine, sine = cos_sin(self._azimuths(view, draw_ids))
        images = render_clouds(
            catalog.systems(category, weight),
            draw_ids if fresh else indices - instance + weight,  # the views of a shape share their points
            torch.stack([cosine, sine], dim=1).float(),
            seed=self.seed,
            points=self.points,
            size=self.image_size,
        )
        return images[:, None]

    def _azimuths(self, view: torch.Tensor, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the cameras' azimuths in units of 2^-32 of a turn, int64 ``[N]``."""
        drawn = words(self.seed, Stream.VIEWPOINT, draw_ids)  # [N, 4]
        if self.viewpoints == "random":
            return drawn[:, 0]
        if self.viewpoints == "drawn":
            view = bounded(drawn[:, 1], self.views)
        azimuth = view * TURN // self.views + TURN // RING
        if self.variant == "released":
            azimuth = azimuth + ((2.0 * uniform(drawn[:, 0]) - 1.0) * JITTER).long()
        return azimuth & (TURN - 1)

    @property
    def _search_key(self) -> str:
        return key_of(["space", LAYOUT, self.seed, self.variance_threshold])

    def needs_search(self) -> bool:
        """Return whether categories are still to be searched."""
        return self.categories is None and len(self._search(torch.device("cpu")).known()) < self.classes

    def _search(self, device: torch.device) -> Search:
        return Search(
            family="ExFractalDB",
            key=self._search_key,
            accepted=lambda candidate_ids: self._accepted(candidate_ids, device),
            batch=SEARCH_BATCH if dispatch.on_host(device) else GPU_SEARCH_BATCH,
            limit=SEARCH_LIMIT,
            hopeless=f"variance_threshold: none of {SEARCH_LIMIT} random systems in a row has a variance above "
            f"{self.variance_threshold} on every axis; lower it",
        )

    def _accepted(self, candidate_ids: np.ndarray, device: torch.device) -> list[int]:
        """Return the ids of the candidates whose variance is large enough on every axis."""
        maps, probabilities, counts = candidates(self.seed, candidate_ids)
        tested = systems_of(maps, probabilities, counts).to(device)
        addresses = torch.from_numpy(candidate_ids | np.int64(-(2**63)))  # bit 63: disjoint from the images' draw ids
        found = moments(tested, addresses.to(device), seed=self.seed, points=SEARCH_POINTS).cpu().numpy()
        wide = (variances(found) > self.variance_threshold).all(axis=1)
        return candidate_ids[wide & (found[:, 0] == SEARCH_POINTS - 1)].tolist()


def weight_set(variant: str) -> tuple[tuple[float, ...], ...]:
    """Return the 145 rows of the released weights file: a, b, ..., l in turn times 0.4, 0.5, ..., 1.6, of which the row
    of all ones is there only once, as the seventh; in the released file the last row of i is 0.6 again.
    """
    steps = [round(0.4 + 0.1 * k, 1) for k in range(13)]
    rows = []
    for parameter in range(12):
        for step in steps:
            if step == 1.0 and parameter > 0:
                continue
            repeated = variant == "released" and parameter == 8 and step == 1.6
            rows.append(tuple((0.6 if repeated else step) if column == parameter else 1.0 for column in range(12)))
    return tuple(rows)


def candidates(seed: int, candidate_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random systems of the search: maps float64 [N, 7, 12], probabilities [N, 7], counts [N].

    candidate_ids  # [N] integers
    """
    drawn = words(seed, Stream.SPACE_SEARCH, candidate_ids, blocks=1 + 3 * MOST_MAPS)  # block 0 gives the count
    counts = 2 + bounded(drawn[:, 0], MOST_MAPS - 1)
    maps = (2.0 * uniform(drawn[:, 4:]) - 1.0).reshape(-1, MOST_MAPS, 12)
    maps = np.where((np.arange(MOST_MAPS) < counts[:, None])[:, :, None], maps, 0.0)
    return maps, ifs.map_probabilities(maps), counts


def systems_of(maps: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> SpaceSystems:
    """Return the kernel's systems, on the CPU; arguments as :func:`candidates` returns them."""
    return SpaceSystems(
        torch.from_numpy(maps.astype(np.float32)),
        torch.from_numpy(ifs.thresholds(probabilities)),
        torch.from_numpy(counts.astype(np.int32)),
    )


def variances(found: np.ndarray) -> np.ndarray:
    """Return the variance per axis of clouds in coordinates from -1 to 1, float64 [N, 3]; found: moments, int64 [N, 7].

    Variance: (sum of squares / n - (sum / n)^2) (2 / U)^2.
    """
    count = np.maximum(found[:, :1], 1)
    means, squares = found[:, 1:4] / count, found[:, 4:7] / count
    return (squares - means * means) * (2.0 / UNITS) ** 2
