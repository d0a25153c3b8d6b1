"""What the coloured fractals of one object and of several share: systems, and what is drawn of objects and backgrounds.

Source: Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022), and the authors' released generator.

The random numbers of an image lie at the address (recipe's seed, stream, draw id), the words of object k after those of
object k - 1. All arithmetic is float64 or integer, one operation of torch at a time, and float32 at its end.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.chaos_game import MAX_POINTS, Systems
from gpurender.kernels.diamond_square import textures
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics import quantiles
from gpurender.numerics.portable_math import exp, log
from gpurender.numerics.streams import Stream
from gpurender.recipes import sigma_factor, system_jitter
from gpurender.recipes.base import Recipe
from gpurender.runtime import dispatch
from gpurender.util import checks

MOST_MAPS = 8  # the library's default range ends at 7
PAGE = 1024  # systems sampled together on a CPU: 4 ms, where one takes 1 and 16 take 2
COUNT_ID = 0xFFFFFFFF  # the draw id of a candidate, with which its number of maps is drawn
SIGMA_WIDTH = 0.5
HUE_UNITS = {"released": 6.0 / 180.0, "paper": 6.0 / 256.0}  # sixths of a turn per unit of a hue's byte
GREY = 127.0
DECAY = (0.4, 0.8)
SIGMAS = (0.5, 1.0)  # pixels: standard deviations of the blur
NONE = "none"

# Words of an object
PATCH, ORIENTATION, HUE, SATURATION, VALUE = 0, 1, 2, 3, 4
OWN = 5  # the first word that is left for a family
WORDS = 12


@dataclass(frozen=True)
class ColoredSystems:
    """The systems of a recipe on a device; those of class c are numbers c x systems to (c + 1) x systems - 1.

    On a CPU a page of them is sampled when one of it is first wanted: all 100,000 of a recipe take a fifth of a second,
    for which one image should not wait. On a GPU all are sampled at once, because there a batch must not wait for the
    host. (A catalog that is made in torch's inference mode cannot be filled outside it; a renderer makes its own
    outside.)

    Attributes:
        maps: float64 ``[classes x systems, M, 6]``, rows of zeros as padding, and where nothing is sampled yet.
        counts: int64 ``[classes x systems]``, maps per system; zeros where nothing is sampled yet.
        blur_steps: int64, the words from which on the blur's weight is one larger.
        least_blur: smallest weight of a blur.
        pages: what has been sampled; ``None``: everything.
    """

    maps: torch.Tensor
    counts: torch.Tensor
    blur_steps: torch.Tensor
    least_blur: int
    pages: "Pages | None" = None

    def of(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps, float64 ``[N, M, 6]``, and the numbers of maps, int64 ``[N]``, of systems, int64 ``[N]``."""
        if self.pages is not None:
            self.pages.complete(self.maps, self.counts, numbers)
        return self.maps[numbers], self.counts[numbers]

    def varied(self, numbers: torch.Tensor, jitter: str, seed: int, draw_ids: torch.Tensor) -> Systems:
        """Return systems as the chaos game plays them, each varied at a draw id; int64 ``[N]`` both."""
        maps, counts = self.of(numbers)
        if jitter != NONE:
            maps = system_jitter.varied(maps, counts, jitter, seed, draw_ids)
        return playable(maps, counts)

    def blurs(self, coins: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
        """Return the blurs' weights, int32 ``[N]``, of words int64 ``[N]``: 0 with probability 1/2."""
        weights = self.least_blur + torch.searchsorted(self.blur_steps, strengths.contiguous(), right=True)
        return torch.where((coins >> 31).bool(), weights, 0).to(torch.int32)


@dataclass(frozen=True)
class Pages:
    """Which pages of a table of systems have been sampled, on a CPU, and how.

    Attributes:
        seed: of the recipe.
        maps: range of the number of maps.
        known: bool ``[pages]``, changed in place.
    """

    seed: int
    maps: tuple[int, int]
    known: torch.Tensor

    def complete(self, maps: torch.Tensor, counts: torch.Tensor, numbers: torch.Tensor) -> None:
        """Sample the pages in which systems lie, int64 ``[N]``, into a table; several threads write the same bytes."""
        pages = torch.unique(numbers // PAGE)
        missing = pages[~self.known[pages]]
        if not len(missing):
            return
        rows = (missing[:, None] * PAGE + torch.arange(PAGE, device=missing.device)).flatten()
        rows = rows[rows < len(counts)]
        found = sampled(self.seed, rows.numpy().astype(np.uint64), self.maps)
        maps[rows], counts[rows] = map(torch.from_numpy, found)
        self.known[missing] = True


@dataclass(frozen=True, kw_only=True, repr=False)
class ColoredRecipe(Recipe):
    """The parameters and the catalog that recipes of coloured fractals share (:class:`gpurender.ColorFractal`)."""

    paper: ClassVar[str] = (
        "Anderson & Farrell, Improving Fractal Pre-training, WACV 2022, https://arxiv.org/abs/2110.03091"
    )
    channels: ClassVar[int] = 3

    instances: int = 1000
    image_size: int = 224
    systems: int = 1
    maps: tuple[int, int] = (2, 4)
    points: int = 100_000
    jitter: str = "basic"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("systems", checks.integer("systems", self.systems, 1, 10**6))
        self._set("maps", checks.integer_range("maps", self.maps, 1, MOST_MAPS))
        self._set("points", checks.integer("points", self.points, 1, MAX_POINTS))
        self._set("jitter", checks.choice("jitter", self.jitter, (NONE, *system_jitter.KINDS)))

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> ColoredSystems:
        """Return the systems of all classes. (No two images are the same, so none are kept.)"""
        return catalog(self.seed, self.classes * self.systems, self.maps, device)

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``systems`` of classes, ``systems`` of the recipe each: rows of a, b, c, d, e, f, before the jitter.

        A map is chosen with a probability in proportion to \\|det\\|.
        """
        numbers = (classes[:, None] * self.systems + np.arange(self.systems)).flatten()
        tables, counts = sampled(self.seed, numbers.astype(np.uint64), self.maps)
        rows = [table[:count].tolist() for table, count in zip(tables, counts, strict=True)]
        return [{"systems": rows[first : first + self.systems]} for first in range(0, len(rows), self.systems)]


def catalog(seed: int, count: int, maps: tuple[int, int], device: torch.device) -> ColoredSystems:
    """Return the first ``count`` systems of :func:`sampled` on a device, and the weights of blurs."""
    least, steps = blur_steps(*SIGMAS)
    if not dispatch.on_host(device):
        found = sampled(seed, np.arange(count, dtype=np.uint64), maps)
        systems, counts, weights = (torch.from_numpy(array).to(device) for array in (*found, steps))
        return ColoredSystems(systems, counts, weights, least)
    return ColoredSystems(
        torch.zeros((count, maps[1], 6), dtype=torch.float64, device=device),
        torch.zeros(count, dtype=torch.int64, device=device),
        torch.from_numpy(steps).to(device),
        least,
        Pages(seed, maps, torch.zeros(-(-count // PAGE), dtype=torch.bool, device=device)),
    )


def sampled(seed: int, numbers: np.ndarray, maps: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Sample systems of n maps, n uniform in ``maps``, with sigma-factors U((5 + n) / 2, (6 + n) / 2), at most 3 n.

    Args:
        seed: of the recipe.
        numbers: of the systems, uint64 ``[N]``.
        maps: range of the number of maps.

    Returns:
        float64 ``[N, M, 6]``, rows of zeros as padding, and the numbers of maps, int64 ``[N]``.
    """
    drawn = words(seed, Stream.SYSTEM, numbers << np.uint64(32) | np.uint64(COUNT_ID))[:, 0]
    counts = maps[0] + bounded(drawn, maps[1] - maps[0] + 1)
    systems = np.zeros((len(numbers), maps[1], 6))
    for n in range(maps[0], maps[1] + 1):
        which = np.flatnonzero(counts == n)
        if len(which):
            systems[which, :n] = sigma_factor.sample(seed, numbers[which], n, 0.5 * (5.0 + n), SIGMA_WIDTH)
    return systems, counts


def playable(maps: torch.Tensor, counts: torch.Tensor) -> Systems:
    """Return systems for the chaos game, which starts at the origin: moved so that the fixed point of the first map is
    there, as the released game starts at that point, and chosen with probabilities in proportion to \\|det\\|.

    The shape of a system does not depend on its place. A map without a single fixed point starts where it is.

    maps  # [N, M, 6] float64; counts  # [N] int64
    """
    a, b, c, d, e, f = maps.unbind(-1)  # [N, M]
    beside = (1.0 - a[:, 0]) * (1.0 - d[:, 0]) - b[:, 0] * c[:, 0]
    fixed = beside.abs() > 1e-9
    beside = torch.where(fixed, beside, 1.0)
    x = torch.where(fixed, ((1.0 - d[:, 0]) * e[:, 0] + b[:, 0] * f[:, 0]) / beside, 0.0)[:, None]
    y = torch.where(fixed, ((1.0 - a[:, 0]) * f[:, 0] + c[:, 0] * e[:, 0]) / beside, 0.0)[:, None]
    used = torch.arange(maps.shape[1], device=maps.device) < counts[:, None]
    moved_e = torch.where(used, a * x + b * y + e - x, 0.0)
    moved_f = torch.where(used, c * x + d * y + f - y, 0.0)
    weights = (a * d - b * c).abs()
    sums = list(accumulate(weights.unbind(1)))  # in order: a sum may pair differently on another device
    total, totals = sums[-1], torch.stack(sums, 1)
    shares = torch.where((total > 0.0)[:, None], totals / torch.where(total > 0.0, total, 1.0)[:, None], 1.0)
    thresholds = torch.floor(shares * 65536.0 + 0.5).to(torch.int32)
    moved = torch.stack([a, b, c, d, moved_e, moved_f], -1)
    return Systems(moved.float(), thresholds, counts.to(torch.int32))


def blur_steps(low: float, high: float) -> tuple[int, np.ndarray]:
    """Return the smallest weight of a blur with standard deviations U(low, high), and the words, int64, from which on
    it is one larger.

    The weight of a neighbour is g = E / (1 + 2 E), E = exp(-1 / (2 sigma^2)), in units of 1/256, rounded: OpenCV's
    kernel of three pixels for uint8 images. It grows with sigma, and steps where g = (k + 1/2) / 256.
    """
    least, most = (int(np.rint(256.0 * e / (1.0 + 2.0 * e))) for e in exp(-0.5 / np.array([low, high]) ** 2))
    g = (np.arange(least, most) + 0.5) / 256.0
    sigmas = np.sqrt(-0.5 / log(g / (1.0 - 2.0 * g)))
    return least, np.ceil((sigmas - low) / (high - low) * 2.0**32).astype(np.int64)


def object_words(seed: int, draw_ids: torch.Tensor, objects: int) -> torch.Tensor:
    """Return the words of the objects of images, int64 ``[N, objects, WORDS]``, of draw ids int64 ``[N]``."""
    return words(seed, Stream.OBJECT, draw_ids, objects * (WORDS // 4)).view(len(draw_ids), objects, WORDS)


def patches(u: torch.Tensor) -> torch.Tensor:
    """Return patches of nine fair bits, int32, of words of objects, int64 ``[..., WORDS]``."""
    return (u[..., PATCH] >> 23).to(torch.int32)


def orientations(u: torch.Tensor) -> torch.Tensor:
    """Return orientations, uint8: transposed, flipped top-bottom and left-right with probability 1/2 each."""
    return (u[..., ORIENTATION] >> 29).to(torch.uint8)


def colours(u: torch.Tensor, color: bool) -> torch.Tensor:
    """Return colours, float32 ``[..., 3]``: hue U(0, 255), saturation 255 U(0.3, 1) and value 255 U(0.5, 1), truncated;
    or the grey of binary images.
    """
    if not color:
        grey = torch.zeros((*u.shape[:-1], 3), dtype=torch.float32, device=u.device)
        grey[..., 2] = GREY
        return grey
    hue = 255.0 * uniform(u[..., HUE])
    saturation = torch.floor(255.0 * (0.3 + 0.7 * uniform(u[..., SATURATION])))
    value = torch.floor(255.0 * (0.5 + 0.5 * uniform(u[..., VALUE])))
    return torch.stack([hue, saturation, value], -1).float()


def backgrounds(seed: int, draw_ids: torch.Tensor, size: int, hue_unit: float) -> torch.Tensor:
    """Render backgrounds, uint8 ``[N, 3, size, size]``, of draw ids int64 ``[N]``.

    Noise falls by exp(-U(0.4, 0.8)) from level to level. In bytes, hues have the scale 255 U(0.25, 1) and the shift 255
    U(0, 1), saturations 255 U(0.1, 0.3) and 255 U(0.4, 0.6), values 255 U(0.3, 0.6) and 255 U(0.4, 0.6).
    """
    u = words(seed, Stream.TEXTURE, draw_ids, 2)  # [N, 8]
    first, last = (float(exp(-limit)) for limit in reversed(DECAY))
    columns = [quantiles.log_uniform(u[:, 0], first, last)]
    ranges = ((0.25, 0.75), (0.0, 1.0), (0.1, 0.2), (0.4, 0.2), (0.3, 0.3), (0.4, 0.2))  # low, width
    columns += [255.0 * (low + width * uniform(u[:, 1 + i])) for i, (low, width) in enumerate(ranges)]
    return textures(torch.stack(columns, -1).float(), draw_ids, seed=seed, size=size, hue_unit=hue_unit)
