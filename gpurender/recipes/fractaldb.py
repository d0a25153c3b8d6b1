"""FractalDB: a category is an iterated function system found by random search.

Source: Kataoka et al., "Pre-training without Natural Images" (ACCV 2020); "Exploring the Potential of Neural Dataset
Search", which restates the rules; and the authors' released search and renderer.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.chaos_game import MAX_POINTS, Instances, Systems, covered_pixels, parts_of
from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import LAYOUT, Stream
from gpurender.recipes import category_files, ifs, published
from gpurender.recipes.base import Recipe
from gpurender.recipes.search import Search, key_of
from gpurender.runtime import dispatch
from gpurender.util import checks, keywords

WEIGHT_SETS = {"small": 0.2, "base": 0.4, "large": 0.6}  # the papers' 20 %, 40 % and 60 % variation
MAX_WEIGHT = 1e3
SEARCH_POINTS = 100_000  # points per candidate, as released, independent of ``points``
SEARCH_SIZE = 512
SEARCH_BATCH = 128  # candidates
GPU_SEARCH_BATCH = 4096  # candidates; several waves on a GPU's multiprocessors
SEARCH_LIMIT = 50_000  # candidates in a row without a category
MOST_MAPS = {"released": 7, "paper": 8}

# Orientation codes (kernels.chaos_game) by flip, combined with the upside-down storage of the released images.
ORIENTATIONS = {
    "released": np.array([1, 0, 3, 2], np.uint8),  # none, top-bottom, left-right, both
    "paper": np.array([1, 7, 2, 4], np.uint8),  # turns by 0, 90, 180, 270 degrees, anticlockwise
}


@dataclass
class Categories:
    """The categories of a recipe, on a device.

    Attributes:
        maps: float64 ``[classes, M, 6]``.
        thresholds: int32 ``[classes, M]``, as the kernel expects them.
        counts: int32 ``[classes]``.
        factors: float64 ``[W, 6]``, the instance weights.
        orientations: uint8 ``[4]``, indexed by flip.
        bitmaps: indexed by ``category * W + weight``.
    """

    maps: torch.Tensor
    thresholds: torch.Tensor
    counts: torch.Tensor
    factors: torch.Tensor
    orientations: torch.Tensor
    bitmaps: ifs.Bitmaps

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that are kept so far."""
        return self.bitmaps.kept_bytes

    def systems(self, category: torch.Tensor, weight: torch.Tensor) -> Systems:
        """Return the systems of categories times instance weights, int64 ``[N]`` both; multiplied in float64."""
        maps = self.maps[category] * self.factors[weight][:, None]  # [N, M, 6]
        return Systems(maps.float(), self.thresholds[category], self.counts[category])


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class FractalDB(Recipe):
    """Images of random iterated function systems, one system ("category") per class.

    A category has 2 to 7 maps (paper: 2 to 8) with parameters U(-1, 1) and probabilities in proportion to \\|det\\|,
    and is accepted when 100,000 points cover at least ``fill_rate`` of a 512 x 512 canvas. Instance ``i`` of a category
    is ``(weight * patches + patch) * flips + flip``: a row of instance weights that multiply a, b, c, d, e, f of
    every map, a redraw of the random patches, and a flip (0 none, 1 top-bottom, 2 left-right, 3 both; in the paper's
    variant rotations by 0, 90, 180, 270 degrees).

    Args:
        classes: number of categories (default 1000, or all the given ones).
        instances: images per category; default and maximum: weights x patches x flips.
        weights: ``"small"``, ``"base"`` or ``"large"`` (25 rows: all ones, and one parameter at a time multiplied by
            1 +- w, 1 +- 2 w for w = 0.2, 0.4, 0.6), or a table of 6 columns.
        patches: redraws of the patch masks; default 10 with random masks, else 1, because redraws would be equal.
        flips: number of flips, 1 to 4.
        points: points per image.
        fill_rate: minimum fraction of covered pixels for a category to be accepted.
        categories: the systems, each as rows of a, b, c, d, e, f, p, instead of a search; see :meth:`from_csv`.
        draw_type: ``"patch_gray"`` (released), ``"patch_color"``, ``"point_gray"`` or ``"point_color"``.
        mask_mode: ``"random"`` 3 x 3 masks or ``"fill"``.
        variant: ``"released"``: all images share the uniforms that choose the maps, so the patches and flips of a
            category and weight share their points, and its flips share their masks; ``"paper"``: every image draws its
            own uniforms.

    Diverging systems: most published categories contract only on average, and about one image in twenty leaves
    float32's range. A walker that leaves the range restarts at the origin; the pixels set before stay in the canvas.
    The image is a few pixels, as with the released program, whose coordinates become NaN at that point.

    The sizes of the dataset search ("Exploring the Potential of Neural Dataset Search"): ``classes`` and ``instances``
    of 512 to 4096, ``weights`` of all three names, ``image_size`` 256 (224 in its text), 362 or 512; its four turns by
    90 degrees are those of ``variant="paper"``. The study does not state how 25 weights and 4 turns give its numbers of
    instances; ``patches=ceil(n / 100), instances=n`` uses nearly all weights.
    """

    family: ClassVar[str] = "fractaldb"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "fractaldb-1k": {},
        "fractaldb-21k": {"classes": 21_000},
        "fractaldb-100k": {"classes": 100_000},
    }
    paper: ClassVar[str] = (
        "Kataoka et al., Pre-training without Natural Images, ACCV 2020, https://arxiv.org/abs/2101.08515"
    )

    classes: int = None  # type: ignore[assignment]
    instances: int = None  # type: ignore[assignment]
    image_size: int = 362
    weights: str | tuple[tuple[float, ...], ...] = "base"
    patches: int = None  # type: ignore[assignment]
    flips: int = 4
    points: int = 200_000
    fill_rate: float | None = None
    categories: Any = None  # after validation: tuple[tuple[tuple[float, ...], ...], ...] | None
    draw_type: str = "patch_gray"
    mask_mode: str = "random"

    def __post_init__(self) -> None:
        self._set("draw_type", checks.choice("draw_type", self.draw_type, ifs.DRAW_TYPES))
        self._set("mask_mode", checks.choice("mask_mode", self.mask_mode, ifs.MASK_MODES))
        masked = self.draw_type.startswith("patch_") and self.mask_mode == "random"
        self._default("patches", 10 if masked else 1)
        self._set("patches", checks.integer("patches", self.patches, 1, 10**6))
        self._set("flips", checks.integer("flips", self.flips, 1, 4))
        self._check_weights()
        self._check_categories()
        most = len(self.factors()) * self.patches * self.flips
        self._default("instances", most)
        super().__post_init__()
        if self.instances > most:
            raise ValueError(
                f"instances must be at most weights x patches x flips = {len(self.factors())} x {self.patches} x "
                f"{self.flips} = {most}, got {self.instances}; raise patches for more"
            )
        self._set("points", checks.integer("points", self.points, 1, MAX_POINTS))

    def _check_weights(self) -> None:
        if isinstance(self.weights, str):
            checks.choice("weights", self.weights, tuple(WEIGHT_SETS))
            return
        table = checks.table("weights", self.weights, (6,), published.MOST_ROWS, -MAX_WEIGHT, MAX_WEIGHT)
        named = [name for name, spread in WEIGHT_SETS.items() if weight_set(spread) == table]
        self._set("weights", named[0] if named else table)

    def _check_categories(self) -> None:
        if self.categories is None:
            self._default("classes", 1000)
            self._default("fill_rate", 0.2)
            self._set("fill_rate", checks.real("fill_rate", self.fill_rate, 0.0, 1.0))
            return
        if self.fill_rate is not None:
            raise ValueError(
                f"fill_rate must be left out when categories are given, got {checks.shown(self.fill_rate)}"
            )
        systems = ifs.given_systems(self.categories)
        self._default("classes", len(systems))
        self._set("classes", checks.integer("classes", self.classes, 1, len(systems)))
        self._set("categories", systems[: self.classes])

    @classmethod
    def from_csv(cls, folder: str | os.PathLike[str], weights: Any = "base", **parameters: Any) -> "FractalDB":
        """Return the recipe of published category files.

        Args:
            folder: directory of ``*.csv``, one category per file, one map per row: a, b, c, d, e, f, p. Files in
                subfolders are read too, as the authors publish them in csv0, csv1, ... Classes are in the order of the
                files' names, independent of their folders. Hidden files and folders are left out.
            weights: a published weights file (6 columns), or as for :class:`FractalDB`.
            parameters: any other parameter of :class:`FractalDB`.

        Raises:
            ValueError: a file or folder is missing, empty or malformed (the message gives its name and line), or two
                files have the same name.
        """
        categories = category_files.read_categories(folder, parameters)
        weights = published.weights_argument(weights, WEIGHT_SETS, 6)
        return cls(categories=categories, weights=weights, **parameters)

    def to_csv(self, folder: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> None:
        """Write the categories in the published layout; :meth:`from_csv` reads the same numbers back.

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
    def smallest(cls) -> "FractalDB":
        return cls(categories=[ifs.TRIANGLE], points=1000, image_size=32, draw_type="patch_color")

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Channels of a canvas: 1 for grey, 3 for colour."""
        return 3 if self.draw_type.endswith("_color") else 1

    def factors(self) -> tuple[tuple[float, ...], ...]:
        """Return the instance weights as a table, ``[weights][6]``."""
        return weight_set(WEIGHT_SETS[self.weights]) if isinstance(self.weights, str) else self.weights

    def canonical(self) -> dict[str, Any]:
        values = super().canonical()
        used = -(-self.instances // (self.patches * self.flips))  # rows of weights that instances use
        values["weights"] = self.factors()[:used]
        if used == 1:  # then patches has no effect, and flips only up to the number of instances
            del values["patches"]
            values["flips"] = min(self.flips, self.instances)
        if self.categories is not None:
            values["categories"] = [ifs.used_maps(rows) for rows in self.categories]
        else:
            values["fill_rate"] = self._least
        if self.draw_type.startswith("point_"):
            del values["mask_mode"]
        return values

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> "Categories":
        """Return the categories' systems; the result of a search is cached on disk."""
        maps, probabilities, counts = self._tables(device)
        return Categories(
            torch.from_numpy(maps).to(device),
            torch.from_numpy(ifs.thresholds(probabilities)).to(device),
            torch.from_numpy(counts.astype(np.int32)).to(device),
            torch.tensor(self.factors(), dtype=torch.float64, device=device),
            torch.from_numpy(ORIENTATIONS[self.variant]).to(device),
            ifs.Bitmaps(cache_bytes),
        )

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``maps`` of classes: the category, rows of a, b, c, d, e, f and p, before its instance weights."""
        return ifs.stated(*self._tables(torch.device("cpu"), classes))

    def _tables(
        self, device: torch.device, classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return maps float64 [N, M, 6], probabilities [N, M], counts [N] of classes (by default all), given or
        searched.
        """
        which = np.arange(self.classes) if classes is None else classes
        if self.categories is not None:
            return ifs.padded([self.categories[number] for number in which])
        return candidates(self.seed, self.variant, np.array(self._search(device))[which])

    def kept_bytes(self, cache_bytes: int, *, masked: bool = True) -> int:
        if self.variant == "paper":
            return 0
        images = self.classes * -(-self.instances // self.flips) if masked else 0
        return ifs.kept_bytes(self, self.classes * len(self.factors()), images, cache_bytes)

    def canvases(
        self,
        catalog: "Categories",
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor | BitCanvases:
        """Render uint8 ``[N, channels, image_size, image_size]`` canvases; indices and draw ids: int64 ``[N]``."""
        redraw = fresh or self.variant == "paper"
        weights = len(catalog.factors)
        law = Instances(self.instances, self.flips, self.patches, weights, shares_masks=not redraw)
        parts = parts_of(indices, draw_ids, catalog.orientations, law)
        images = ifs.Images(
            parts.images,
            self.classes * law.groups,
            lambda ids: ids // law.groups * weights + ids % law.groups // self.patches,
            lambda ids: ids // law.groups * self.instances + ids % law.groups * self.flips,
        )
        return ifs.render(
            self,
            lambda keys: catalog.systems(keys // weights, keys % weights),
            parts.systems,
            draw_ids if redraw else None,
            parts.masks,
            parts.orientations,
            self.classes * weights,
            catalog.bitmaps,
            images if draw_ids is indices else None,
            bits,
        )

    @property
    def _least(self) -> int:
        """Minimum number of pixels that a category covers in the search."""
        return math.ceil(self.fill_rate * SEARCH_SIZE * SEARCH_SIZE)  # type: ignore[operator]  # of a search

    @property
    def _search_key(self) -> str:
        return key_of([LAYOUT, self.seed, MOST_MAPS[self.variant], self._least])

    def needs_search(self) -> bool:
        """Return whether categories are still to be searched."""
        return self.categories is None and len(self._searching(torch.device("cpu")).known()) < self.classes

    def _search(self, device: torch.device) -> list[int]:
        """Return the ids of the first ``classes`` candidates (or more) that are filled."""
        if self._least > SEARCH_POINTS:
            most = math.floor(1e4 * SEARCH_POINTS / SEARCH_SIZE**2) / 1e4
            raise ValueError(
                f"fill_rate must be at most {most} for a search, got {self.fill_rate}: {SEARCH_POINTS} points cover no "
                f"more of {SEARCH_SIZE} x {SEARCH_SIZE} pixels"
            )
        return self._searching(device).ids(self.classes)

    def _searching(self, device: torch.device) -> Search:
        return Search(
            family="FractalDB",
            key=self._search_key,
            accepted=lambda candidate_ids: self._accepted(candidate_ids, device),
            batch=SEARCH_BATCH if dispatch.on_host(device) else GPU_SEARCH_BATCH,
            limit=SEARCH_LIMIT,
            hopeless=f"fill_rate: {SEARCH_LIMIT} random systems in a row cover less than {self.fill_rate} of the "
            "canvas; lower it",
            shipped=_preset_search(self._search_key),
        )

    def _accepted(self, candidate_ids: np.ndarray, device: torch.device) -> list[int]:
        """Return the ids of the candidates that are filled."""
        tested = ifs.systems(*candidates(self.seed, self.variant, candidate_ids))
        addresses = torch.from_numpy(candidate_ids | np.int64(-(2**63)))  # bit 63: disjoint from the images' draw ids
        covered = covered_pixels(
            tested.to(device), addresses.to(device), seed=self.seed, points=SEARCH_POINTS, size=SEARCH_SIZE
        )
        return candidate_ids[covered.cpu().numpy() >= self._least].tolist()


def weight_set(spread: float) -> tuple[tuple[float, ...], ...]:
    """Return the 25 rows of the released weights files: a, b, c, d, e, f in turn times 1 - 2w, 1 - w, (1), 1 + w,
    1 + 2w; row 2 (from 0) is all ones.
    """
    steps = [round(1.0 + sign * spread, 10) for sign in (-2, -1, 1, 2)]
    rows = [
        tuple(step if column == parameter else 1.0 for column in range(6)) for parameter in range(6) for step in steps
    ]
    return (*rows[:2], (1.0,) * 6, *rows[2:])


def candidates(seed: int, variant: str, candidate_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random systems of the search: maps float64 [N, M, 6], probabilities [N, M], counts [N]; ``candidate_ids``:
    integers [N].
    """
    most = MOST_MAPS[variant]
    drawn = words(seed, Stream.SEARCH, candidate_ids, blocks=1 + (6 * most + 3) // 4)  # block 0 gives the count
    counts = 2 + bounded(drawn[:, 0], most - 1)
    maps = (2.0 * uniform(drawn[:, 4 : 4 + 6 * most]) - 1.0).reshape(-1, most, 6)
    maps = np.where((np.arange(most) < counts[:, None])[:, :, None], maps, 0.0)
    return maps, ifs.map_probabilities(maps), counts


def _preset_search(key: str) -> tuple[int, ...]:
    """Return the result of the presets' search, shipped with the package (``preset_search.json``): 21,000 ids, stored
    as differences. Return an empty tuple for any other search.
    """
    preset = json.loads((Path(__file__).parent / "preset_search.json").read_text(encoding="utf-8"))
    return tuple(np.cumsum(preset["gaps"]).tolist()) if preset["key"] == key else ()
