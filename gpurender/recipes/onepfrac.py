"""1p-frac: one fractal, locally perturbed; every perturbation is a class.

Source: Nakamura, Tadokoro et al., "Scaling Backwards: Minimal Synthetic Pre-training?" (ECCV 2024), eqs. 2 and 9, and
the authors' released generator. The base system is sampled at a given sigma-factor as in Anderson & Farrell,
"Improving Fractal Pre-training" (WACV 2022).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.chaos_game import MAX_MAPS, MAX_POINTS, Instances, Systems, parts_of, render_systems
from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.philox import uniform, words
from gpurender.numerics.portable_math import exp, log
from gpurender.numerics.streams import Stream
from gpurender.recipes import ifs, sigma_factor
from gpurender.recipes.base import Recipe
from gpurender.runtime import dispatch
from gpurender.util import checks, keywords
from gpurender.util.progress import progress

SIGMA_MARGIN = 0.1  # released: sigma-factor ~ U(sigma - 0.1, sigma + 0.1)
MAX_BASES = 100  # bases tried per recipe
MAX_ATTEMPTS = 1000  # perturbations tried per class
BATCH = 16  # classes checked per batch; small, so that an unsuitable base is rejected early
GPU_BATCH_BYTES = 1 << 28  # bytes of canvases checked per batch on a GPU
UNKNOWN = -1  # attempt of a class whose perturbation is not known


@dataclass
class Perturbations:
    """The perturbations of a recipe's classes.

    On a CPU the perturbation of a class is found when the class is first rendered. On a GPU all perturbations are found
    in advance, because checking pixels makes the host wait.

    Attributes:
        base: number of the base among the candidates.
        attempts: int32 ``[classes]``, the number of each class's perturbation, or ``UNKNOWN``; on the host.
        complete: whether all perturbations are known.
        systems: systems of the classes whose perturbation is known, on the device.
        reach: float64 ``[maps, 6]`` on the device: how far ``redraw`` moves a parameter from that of its class.
        bitmaps: bitmaps of the classes, indexed by class.
        orientations: uint8 ``[1]``, the orientation of every image, on the device.
    """

    base: int
    attempts: np.ndarray
    complete: bool
    systems: Systems
    reach: torch.Tensor
    bitmaps: ifs.Bitmaps
    orientations: torch.Tensor

    @property
    def kept_bytes(self) -> int:
        """Bytes of the bitmaps that are kept so far."""
        return self.bitmaps.kept_bytes


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class OnePFrac(Recipe):
    """Images of one iterated function system, each class a small perturbation of its parameters.

    Args:
        classes: L, the number of perturbations.
        instances: images per class; they differ in their patch masks (and, in the paper's variant, in their points).
        sigma: sigma-factor of the base, sum over maps of s1 + 2 s2 with the singular values s1 >= s2; the base's
            value is drawn from U(sigma - 0.1, sigma + 0.1), at most 3 x maps.
        maps: N, number of affine maps of the base.
        base: the base, as rows of a, b, c, d, e, f (and p), instead of ``sigma`` and ``maps``; without p the
            probabilities are in proportion to \\|det\\|.
        delta: the perturbation. Released: each parameter times U(1 - delta, 1 + delta). Paper: plus U(-delta/2,
            delta/2).
        points: points per image.
        fill_rate: a class's perturbation is drawn again until more than this fraction of its image is lit
            (released: 0.05).
        draw_type: ``"patch_gray"`` (released), ``"patch_color"``, ``"point_gray"`` or ``"point_color"``.
        mask_mode: ``"random"`` 3 x 3 masks or ``"fill"``.
        redraw: whether an image that is ``fresh`` has a perturbation of its own, around that of its class: uniform in
            the hypercube around it with 1/L of the volume from which the classes draw (see ``gr.losses.LPCE``). Such an
            image may be less filled than ``fill_rate``. By default all images of a class have its perturbation.
        variant: ``"released"``: all images share the uniforms that choose the maps; ``"paper"``: every image draws its
            own uniforms.
    """

    family: ClassVar[str] = "onepfrac"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"onepfrac-1k": {}, "onepfrac-21k": {"classes": 21_000}}
    paper: ClassVar[str] = (
        "Nakamura, Tadokoro et al., Scaling Backwards: Minimal Synthetic Pre-training?, ECCV 2024, "
        "https://arxiv.org/abs/2408.00677"
    )

    sigma: float | None = None
    maps: int | None = None
    base: Any = None  # after validation: tuple[tuple[float, ...], ...] | None
    delta: float = 0.1
    points: int = 100_000
    fill_rate: float = 0.05
    draw_type: str = "patch_gray"
    mask_mode: str = "random"
    redraw: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base is None:
            self._default("maps", 2)
            maps = checks.integer("maps", self.maps, 1, MAX_MAPS)
            self._set("maps", maps)
            self._default("sigma", 3.5)
            self._set("sigma", checks.real("sigma", self.sigma, SIGMA_MARGIN, 3.0 * maps))
        else:
            for name in ("sigma", "maps"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} must be left out when a base is given, got {checks.shown(getattr(self, name))}"
                    )
            self._set("base", ifs.system("base", self.base))
        self._set("delta", checks.real("delta", self.delta, 0.0, 10.0))
        self._set("points", checks.integer("points", self.points, 1, MAX_POINTS))
        self._set("fill_rate", checks.real("fill_rate", self.fill_rate, 0.0, 1.0))
        self._set("draw_type", checks.choice("draw_type", self.draw_type, ifs.DRAW_TYPES))
        self._set("mask_mode", checks.choice("mask_mode", self.mask_mode, ifs.MASK_MODES))
        self._set("redraw", checks.boolean("redraw", self.redraw))
        if self.redraw and self.delta == 0.0:
            raise ValueError("redraw must be False with delta=0, got True: there is no perturbation to draw again")

    @classmethod
    def smallest(cls) -> "OnePFrac":
        return cls(classes=64, base=ifs.TRIANGLE, points=1000, image_size=32, fill_rate=0.0)

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Channels of a canvas: 1 for grey, 3 for colour."""
        return 3 if self.draw_type.endswith("_color") else 1

    def canonical(self) -> dict[str, Any]:
        values = super().canonical() | {"fill_rate": self._sparse}
        if self.base is not None:
            values["base"] = ifs.canonical(self.base)
        if self.draw_type.startswith("point_"):
            del values["mask_mode"]
        if not self.redraw:  # the fingerprint from before there was a choice
            del values["redraw"]
        return values

    def _data(self) -> dict[str, Any]:
        return {name: value for name, value in super()._data().items() if name != "redraw" or value}

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Perturbations:
        """Return the base and the perturbations of the classes, all on a GPU, none yet on a CPU."""
        base, n = self._find_base(device), self.classes
        m = len(self._base(base))
        systems = Systems(  # untouched zeros take no memory on the host
            torch.zeros((n, m, 6), dtype=torch.float32, device="cpu"),
            torch.zeros((n, m), dtype=torch.int32, device="cpu"),
            torch.zeros(n, dtype=torch.int32, device="cpu"),
        )
        orientations = torch.tensor([ifs.UPSIDE_DOWN], dtype=torch.uint8, device=device)
        attempts, reach = np.full(n, UNKNOWN, np.int32), torch.from_numpy(self._reach(base)).to(device)
        found = Perturbations(base, attempts, False, systems, reach, ifs.Bitmaps(cache_bytes), orientations)
        if not dispatch.on_host(device):
            self._find_attempts(found, np.arange(n), device)
            found.systems, found.complete = systems.to(device), True
        return found

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``maps`` of classes: the perturbed system, rows of a, b, c, d, e, f (as float32) and p."""
        found = self.catalog(torch.device("cpu"))
        self._find_attempts(found, np.unique(classes), torch.device("cpu"))
        maps = found.systems.maps[torch.from_numpy(classes)].double().numpy()
        probabilities = np.repeat(ifs.map_probabilities(self._base(found.base)[None]), len(classes), axis=0)
        return ifs.stated(maps, probabilities, np.full(len(classes), maps.shape[1]))

    def kept_bytes(self, cache_bytes: int, *, masked: bool = True) -> int:
        if self.variant == "paper":
            return 0
        images = self.classes * self.instances if masked else 0
        return ifs.kept_bytes(self, self.classes, images, cache_bytes)

    def canvases(
        self,
        catalog: Perturbations,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor | BitCanvases:
        """Render uint8 ``[N, channels, image_size, image_size]`` canvases; indices and draw ids: int64 ``[N]``."""
        law = Instances(self.instances, flips=1, patches=self.instances, weights=1, shares_masks=False)
        parts = parts_of(indices, draw_ids, catalog.orientations, law)
        if not catalog.complete:
            self._find_attempts(catalog, np.unique(parts.systems.numpy()), indices.device)
        own_points = fresh or self.variant == "paper"

        def systems_of(classes: torch.Tensor) -> Systems:
            systems = catalog.systems[classes]
            return self._redrawn(systems, catalog.reach, draw_ids) if fresh and self.redraw else systems

        images = ifs.Images(
            indices, self.classes * self.instances, lambda ids: ids // self.instances, lambda ids: ids
        )  # fmt: skip
        return ifs.render(
            self, systems_of, parts.systems, draw_ids if own_points else None, draw_ids,
            parts.orientations, self.classes, catalog.bitmaps, images if draw_ids is indices else None, bits,
        )  # fmt: skip

    def _reach(self, candidate: int) -> np.ndarray:
        """Return half the sides of the hypercube of :meth:`_redrawn`, float64 [M, 6]: with d parameters, L^(-1/d) of
        those of the classes' hypercube.
        """
        base = self._base(candidate)[:, :6]
        share = float(exp(-log(float(self.classes)) / base.size))
        return self.delta * share * (base if self.variant == "released" else np.full_like(base, 0.5))

    def _redrawn(self, systems: Systems, reach: torch.Tensor, draw_ids: torch.Tensor) -> Systems:
        """Return the systems of images, each moved by a perturbation of its own; draw ids: int64 [N]."""
        n, m = len(draw_ids), len(reach)
        drawn = words(self.seed, Stream.PERTURBATION, draw_ids, blocks=4 * m)[:, 8 * m :]  # the classes use 2 M blocks
        centred = 2.0 * uniform(drawn.reshape(n, m, 8)[:, :, :6]) - 1.0  # [N, M, 6] in [-1, 1)
        maps = (systems.maps.double() + reach * centred).float()
        return Systems(maps, systems.thresholds, systems.counts)

    @property
    def _sparse(self) -> int:
        """Largest number of values above 1 with which a canvas is not yet filled."""
        return math.floor(self.fill_rate * self.channels * self.image_size**2)

    def _filled(self, systems: Systems, classes: np.ndarray, device: torch.device) -> np.ndarray:
        """Return whether the first image of each class is filled, bool [N]."""
        draw_ids = torch.from_numpy(classes.astype(np.int64) * self.instances).to(device)
        images = render_systems(
            systems.to(device),
            draw_ids if self.variant == "paper" else torch.zeros_like(draw_ids),
            draw_ids,
            torch.full_like(draw_ids, ifs.UPSIDE_DOWN, dtype=torch.uint8),
            seed=self.seed,
            points=self.points,
            size=self.image_size,
            **ifs.style(self.draw_type, self.mask_mode),
        )
        return (images > 1).flatten(1).sum(1).cpu().numpy() > self._sparse

    def _base(self, candidate: int) -> np.ndarray:
        """Return the base system, float64 [M, 6 or 7]: the given base, or the candidate of that number."""
        if self.base is not None:
            return np.array(self.base)
        return sample_system(self.seed, candidate, self.maps, self.sigma)  # type: ignore[arg-type]  # both are set

    def _systems(self, candidate: int, classes: np.ndarray, attempts: np.ndarray) -> Systems:
        """Return perturbed systems: released times U(1 - d, 1 + d), paper plus U(-d/2, d/2).

        The probabilities are those of the base.
        """
        base = self._base(candidate)
        count = len(base)
        draw_ids = classes.astype(np.uint64) | (attempts.astype(np.uint64) << np.uint64(32))
        drawn = words(self.seed, Stream.PERTURBATION, draw_ids, blocks=2 * count).reshape(-1, count, 8)[:, :, :6]
        centred = 2.0 * uniform(drawn) - 1.0  # [N, M, 6] in [-1, 1)
        if self.variant == "released":
            maps = base[:, :6] * (1.0 + self.delta * centred)
        else:
            maps = base[:, :6] + 0.5 * self.delta * centred
        probabilities = np.repeat(ifs.map_probabilities(base[None]), len(classes), axis=0)
        return ifs.systems(maps, probabilities, np.full(len(classes), count))

    def _find_base(self, device: torch.device) -> int:
        """Return the first candidate whose unperturbed image is filled; 0 for a given base."""
        if self.base is not None:
            return 0
        for candidate in range(MAX_BASES):
            base = self._base(candidate)[None]
            plain = ifs.systems(base, ifs.map_probabilities(base), np.array([base.shape[1]]))
            if self._filled(plain, np.array([0]), device)[0]:
                return candidate
        raise ValueError(
            f"fill_rate: none of {MAX_BASES} bases with sigma {self.sigma} and {self.maps} maps lights more than "
            f"{self.fill_rate:g} of a {self.image_size} x {self.image_size} canvas with {self.points} points; "
            "lower fill_rate"
        )

    def _find_attempts(self, catalog: Perturbations, classes: np.ndarray, device: torch.device) -> None:
        """Find the first perturbation of each class whose image is filled.

        The result depends on the class alone, so the time and the thread of the search do not matter.
        """
        unknown = classes[catalog.attempts[classes] == UNKNOWN]
        if len(unknown) == 0:
            return
        most = BATCH if dispatch.on_host(device) else GPU_BATCH_BYTES // (self.channels * self.image_size**2)
        with progress(total=len(unknown), desc="1p-frac: fill rates", unit="class") as bar:
            for sparse in np.array_split(unknown, -(-len(unknown) // most)):
                self._fill(catalog, sparse, device)
                bar.update(len(sparse))

    def _fill(self, catalog: Perturbations, sparse: np.ndarray, device: torch.device) -> None:
        """Perturb the classes ``sparse`` until all of them are filled."""
        for attempt in range(MAX_ATTEMPTS):
            systems = self._systems(catalog.base, sparse, np.full(len(sparse), attempt))
            filled = self._filled(systems, sparse, device)
            self._note(catalog, sparse[filled], systems[torch.from_numpy(filled)], attempt)
            sparse = sparse[~filled]
            if len(sparse) == 0:
                return
        raise ValueError(
            f"fill_rate: class {sparse[0]} never lights more than {self.fill_rate:g} of the canvas in "
            f"{MAX_ATTEMPTS} perturbations of the base; lower fill_rate or give another base"
        )

    @staticmethod
    def _note(catalog: Perturbations, classes: np.ndarray, systems: Systems, attempt: int) -> None:
        """Store the perturbation of classes; the systems first, so that a thread that sees the attempt sees those."""
        places = torch.from_numpy(classes)
        catalog.systems.maps[places] = systems.maps
        catalog.systems.thresholds[places] = systems.thresholds
        catalog.systems.counts[places] = systems.counts
        catalog.attempts[classes] = attempt


def sample_system(seed: int, candidate: int, maps: int, sigma: float) -> np.ndarray:
    """Return a contractive system, float64 ``[maps, 6]`` (a, b, c, d, e, f), of a sigma-factor drawn from U(sigma -
    0.1, sigma + 0.1).
    """
    return sigma_factor.sample(seed, np.array([candidate]), maps, sigma - SIGMA_MARGIN, 2.0 * SIGMA_MARGIN)[0]
