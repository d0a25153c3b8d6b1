"""Moiré images: the interference of waves around a few centres.

Sources: Matsuo, Hayamizu, Kataoka, Nakamura, "MoireDB: Formula-generated Interference-fringe Image Dataset" (2025), and
Matsuo et al., "MoireMix: A Formula-Based Data Augmentation for Improving Image Classification Robustness" (2026), whose
released generator says what the papers leave open.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import Stream
from gpurender.recipes.base import Recipe
from gpurender.runtime import dispatch
from gpurender.util import checks, keywords

MAX_CENTRES = 16
MAX_FREQUENCY = 8192  # waves per side: one per pixel of the largest canvas
HOST_PIXELS, GPU_PIXELS = 1 << 17, 1 << 25  # rendered at once: what a core's cache holds, 128 MiB of float32
# Coefficients of sin(2 pi v) / v in powers of v^2: (-1)^k (2 pi)^(2 k + 1) / (2 k + 1)!. At v = 1/4 the next is 6e-8.
SINE = (6.283185307, -41.34170224, 81.60524928, -76.70585975, 42.05869394, -15.09464258)


@dataclass(frozen=True)
class Fringes:
    """The waves of all classes, on a device.

    Attributes:
        counts: int64 ``[classes]``, number of waves.
        frequencies: int64 ``[classes, M]``, waves per side of the canvas; those after the first ``counts`` are unused.
    """

    counts: torch.Tensor
    frequencies: torch.Tensor


@keywords.checked
@dataclass(frozen=True, kw_only=True, repr=False)
class Moire(Recipe):
    """Grey interference fringes: sums of circular waves.

    An image of n centres c_i and frequencies f_i shows, at pixel p of a canvas of side S::

        z(p) = sum over i of sin(2 pi f_i |p - c_i| / S)

    stretched to the range of a byte: the smallest z of the image is 0, the largest 255. A class has a number of
    centres, uniform in ``centres``, and as many different integer frequencies, uniform in ``frequencies``. An image has
    its own centres, uniform in the canvas but for a margin of ``margin`` S pixels at each edge.

    Args:
        classes: number of classes.
        instances: images per class.
        image_size: side of the square canvas in pixels; the highest frequencies alias on a canvas of fewer than two
            pixels per wave.
        centres: range of the number of centres, within 1 to 16, both included.
        frequencies: range of the frequencies, waves per side, within 1 to 8192, both included.
        margin: distance of the centres from the canvas's edges, as a fraction of its side, 0 to 0.5.
        variant: without effect: the released generator is followed; only it was at hand in full.

    ``fresh`` has no effect: everything that an image does not share with its class depends on its draw id.

    The papers mix such pictures into others (:class:`gpurender.augment.PixMix`) and do not train on them, so there is
    no preset. Their generator knows no classes and draws all of a picture anew. A picture of a class
    drawn uniformly (as :class:`gpurender.augment.PixMix` draws) has the same distribution.
    """

    family: ClassVar[str] = "moire"
    paper: ClassVar[str] = (
        "Matsuo et al., MoireDB: Formula-generated Interference-fringe Image Dataset, arXiv 2025, "
        "https://arxiv.org/abs/2502.01490"
    )

    instances: int = 1000
    image_size: int = 224
    centres: tuple[int, int] = (1, 3)
    frequencies: tuple[int, int] = (1, 100)
    margin: float = 0.08

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("centres", checks.integer_range("centres", self.centres, 1, MAX_CENTRES))
        self._set("frequencies", checks.integer_range("frequencies", self.frequencies, 1, MAX_FREQUENCY))
        if self._choices < self.centres[1]:
            raise ValueError(
                f"frequencies must be at least {self.centres[1]} integers, one for each of the centres, got "
                f"{self.frequencies}"
            )
        self._set("margin", checks.real("margin", self.margin, 0.0, 0.5))

    @classmethod
    def smallest(cls) -> "Moire":
        return cls(classes=8, instances=8, image_size=32)

    def canonical(self) -> dict[str, Any]:
        return {name: value for name, value in super().canonical().items() if name != "variant"}

    @property
    def _choices(self) -> int:
        return self.frequencies[1] - self.frequencies[0] + 1

    def catalog(self, device: torch.device, cache_bytes: int = 0) -> Fringes:
        """Return the waves of all classes. (No images are kept.)"""
        return self._fringes(torch.arange(self.classes, dtype=torch.int64, device=device))

    def _class_parameters(self, classes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``frequencies`` of classes, waves per side, one for each centre."""
        found = self._fringes(torch.from_numpy(classes))
        pairs = zip(found.frequencies.tolist(), found.counts.tolist(), strict=True)
        return [{"frequencies": row[:count]} for row, count in pairs]

    def _fringes(self, classes: torch.Tensor) -> Fringes:
        """Return the waves of classes, int64 [N], on their device."""
        drawn = self._words(classes, 0)
        least, most = self.centres
        ranks = different(drawn[:, 1 : 1 + most], self._choices)
        return Fringes(least + bounded(drawn[:, 0], most - least + 1), self.frequencies[0] + ranks)

    def canvases(
        self,
        catalog: Fringes,
        indices: torch.Tensor,
        draw_ids: torch.Tensor,
        fresh: bool,
        bits: bool,
        windows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Render uint8 canvases ``[N, 1, image_size, image_size]`` of indices and draw ids, int64 ``[N]`` both."""
        classes, size = indices // self.instances, self.image_size
        counts, frequencies = catalog.counts[classes], catalog.frequencies[classes]
        places = self.places(draw_ids)
        canvases = torch.empty((len(indices), 1, size, size), dtype=torch.uint8, device=indices.device)
        most = HOST_PIXELS if dispatch.on_host(indices.device) else GPU_PIXELS
        step = max(1, most // size**2)
        for begin in range(0, len(indices), step):
            part = slice(begin, begin + step)
            canvases[part, 0] = fringes(counts[part], frequencies[part], places[part], size)
        return canvases

    def places(self, draw_ids: torch.Tensor) -> torch.Tensor:
        """Return the centres of draw ids, int64 ``[N]``: x and y in pixels, float32 ``[N, M, 2]``."""
        most, size = self.centres[1], self.image_size
        u = uniform(self._words(draw_ids, 1)[:, : 2 * most]).view(-1, most, 2)
        edge = self.margin * size
        return (edge + (size - 2.0 * edge) * u).float()

    def _words(self, draw_ids: torch.Tensor, owner: int) -> torch.Tensor:
        """Return the words of classes (0) or of images (1); the blocks of images follow those of classes."""
        most = self.centres[1]
        first, blocks = 1 + most // 4, -(-most // 2)  # 1 + M words of a class, 2 M words of an image
        drawn = words(self.seed, Stream.MOIRE, draw_ids, first + blocks * owner)
        return drawn[:, 4 * first * owner :]


def different(drawn: torch.Tensor, choices: int) -> torch.Tensor:
    """Return different integers in [0, choices) from words, one after the other and each uniform among those left.

    drawn  # int64 [N, M]; the result, too
    """
    taken: list[torch.Tensor] = []
    for k in range(drawn.shape[1]):
        rank = bounded(drawn[:, k], choices - k)
        if taken:
            for earlier in torch.stack(taken, 1).sort(1).values.unbind(1):
                rank = rank + (rank >= earlier)
        taken.append(rank)
    return torch.stack(taken, 1)


def fringes(counts: torch.Tensor, frequencies: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """Return fringes, uint8 ``[N, size, size]``, in float32, one operation of torch at a time.

    Args:
        counts: int64 ``[N]``, waves of each image.
        frequencies: int64 ``[N, M]``, waves per side.
        places: float32 ``[N, M, 2]``, x and y of the centres in pixels.
        size: side of the canvas in pixels.
    """
    pixels = torch.arange(size, dtype=torch.float32, device=places.device)
    pitches = (frequencies.double() / size).float()  # waves per pixel
    total = torch.zeros((len(counts), size, size), dtype=torch.float32, device=places.device)
    for i in range(places.shape[1]):
        used = counts > i
        if dispatch.on_host(places.device) and not used.any():
            break
        dx, dy = ((pixels - places[:, i, axis, None]) for axis in (0, 1))  # [N, S] each
        r = torch.sqrt((dx * dx)[:, None, :] + (dy * dy)[:, :, None])
        wave = sine(r.mul_(pitches[:, i, None, None]))
        total += wave.mul_(used.float()[:, None, None])
    low, high = total.flatten(1).amin(1), total.flatten(1).amax(1)
    span = (high - low)[:, None, None]
    level = total.sub_(low[:, None, None]).div_(torch.where(span > 0, span, 1.0))
    return level.mul_(255.0).add_(0.5).to(torch.uint8)


def sine(turns: torch.Tensor) -> torch.Tensor:
    """Return sin(2 pi t), within 1e-6; float32 of any shape, which is overwritten.

    With w the distance of t - 1/4 from the nearest integer, sin(2 pi t) = cos(2 pi w) = sin(2 pi v), v = 1/4 - w.
    """
    q = turns.sub_(0.25)
    v = 0.25 - q.sub_(torch.floor(q + 0.5)).abs_()
    square = v * v
    series = torch.full_like(v, SINE[-1])
    for coefficient in SINE[-2::-1]:
        series.mul_(square).add_(coefficient)
    return series.mul_(v)
