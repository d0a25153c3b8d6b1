"""Crop: a random resized crop, flips and normalisation, the augmentation that every training recipe begins with."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gpurender.augment.normalise import HALVES, Triple, checked_mean, checked_std, crop_and_normalise
from gpurender.augment.policy import Parameters, drawn_for, gpu_numbers
from gpurender.augment.resize import INTERPOLATIONS
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop import BILINEAR, MAX_SIDE, CropLaw, draw_crops
from gpurender.numerics.portable_math import exp, log
from gpurender.numerics.streams import Stream
from gpurender.runtime.tensors import ordinary
from gpurender.util import checks

ATTEMPTS = 10
MAX_RATIO = 8192.0


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Random resized crop, random flips, normalisation; the crop is timm's (and torchvision's) random resized crop.

    Up to ten times, an area is drawn uniformly and an aspect ratio log-uniformly; the first pair that fits into the
    canvas is taken, at a uniform position. If none fits, the crop is the largest central one within the range of
    ratios. The crop is resized to the image's size, and no tap of the filter sees beyond it. (Szegedy et al., "Going
    deeper with convolutions", CVPR 2015, section 6.)

    Args:
        scale: area of the crop, as a share of the canvas: a range in (0, 1].
        ratio: width / height of the crop before it is resized: a range in [1/8192, 8192].
        interpolation: ``"bicubic"``, ``"bilinear"``, ``"nearest"``, or ``"random"``: for each sample
            either bilinear or bicubic, with equal chances.
        hflip: probability of a flip from left to right.
        vflip: probability of a flip from top to bottom.
        mean: of the three channels, 0 to 1: what becomes zero.
        std: of the three channels, 0.001 to 1000: what becomes one.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    capturable: ClassVar[bool] = True

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    hflip: float = 0.5
    vflip: float = 0.0
    mean: Triple = HALVES
    std: Triple = HALVES

    def __post_init__(self) -> None:
        scale = checks.real_range("scale", self.scale, 0.0, 1.0)
        if scale[0] == 0.0:
            raise ValueError(f"scale must be a pair (low, high) in (0, 1], got {checks.shown(self.scale)}")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "ratio", checks.real_range("ratio", self.ratio, 1 / MAX_RATIO, MAX_RATIO))
        checks.choice("interpolation", self.interpolation, (*INTERPOLATIONS, "random"))
        object.__setattr__(self, "hflip", checks.real("hflip", self.hflip, 0.0, 1.0))
        object.__setattr__(self, "vflip", checks.real("vflip", self.vflip, 0.0, 1.0))
        object.__setattr__(self, "mean", checked_mean(self.mean))
        object.__setattr__(self, "std", checked_std(self.std))

    @ordinary
    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Crops and flips of draw numbers.

        Addresses: of ``(seed, Stream.CROP, number)``, block k = 0 .. 9 is attempt k, its words are area, aspect
        ratio, top and left; the first word of block 10 chooses the interpolation. Of ``(seed, Stream.FLIP, number)``,
        the first two words of block 0 are the horizontal and the vertical flip. So no parameter moves another's
        numbers: with another ``scale``, the same samples are flipped.

        Args:
            numbers: unsigned 64-bit integers ``[N]``; a tensor on a GPU is drawn from there, its values unread.
            seed: unsigned 64-bit key.
            canvas_size: side of the canvases in pixels.
            image_size: of no account here; it is written down in ``sizes``.

        Returns:
            ``boxes`` int32 ``[N, 4]``: top, left, height, width; ``flips`` bool ``[N, 2]``: horizontal, vertical;
            ``interpolations`` uint8 ``[N]``: 0 nearest, 1 bilinear, 2 bicubic; ``sizes`` uint8
            ``[N, 0, canvas_size, image_size]``: empty, its shape says what the others were drawn for. On the GPU if the
            numbers are.
        """
        seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
        side = checks.integer("canvas_size", canvas_size, 1, MAX_SIDE)
        if (there := gpu_numbers(numbers)) is not None:
            boxes, flipped, codes = draw_crops(there, seed, side, self._law(side))
            sizes = drawn_for(len(there), side, image_size, there.device)
            return {"boxes": boxes, "flips": flipped, "interpolations": codes, "sizes": sizes}
        numbers = checks.integers("numbers", numbers, checks.UINT64_MAX)
        blocks = words(seed, Stream.CROP, numbers, ATTEMPTS + 1).reshape(-1, ATTEMPTS + 1, 4)
        flips = uniform(words(seed, Stream.FLIP, numbers)[:, :2]) < np.array([self.hflip, self.vflip])
        if self.interpolation == "random":
            interpolations = BILINEAR + bounded(blocks[:, ATTEMPTS, 0], 2)
        else:
            interpolations = np.full(len(numbers), INTERPOLATIONS[self.interpolation])
        return {
            "boxes": torch.from_numpy(self._boxes(blocks[:, :ATTEMPTS], side)),
            "flips": torch.from_numpy(flips),
            "interpolations": torch.from_numpy(interpolations.astype(np.uint8)),
            "sizes": drawn_for(len(numbers), side, image_size, torch.device("cpu")),
        }

    def _law(self, side: int) -> CropLaw:
        """The numbers that :meth:`_boxes` begins with."""
        low, high = self.scale
        log_low, log_high = float(log(self.ratio[0])), float(log(self.ratio[1]))
        return CropLaw(
            central=self._central(side),
            area=(low, high - low, float(side * side)),
            log_ratio=(log_low, log_high - log_low),
            flips=(self.hflip, self.vflip),
            interpolation=INTERPOLATIONS.get(self.interpolation),
            attempts=ATTEMPTS,
        )

    def _boxes(self, attempts: np.ndarray, side: int) -> np.ndarray:
        """Boxes int32 [N, 4] from words uint32 [N, attempts, 4]."""
        law = self._law(side)
        (low, span, whole), (log_low, log_span) = law.area, law.log_ratio
        area = (low + uniform(attempts[..., 0]) * span) * whole
        ratio = exp(log_low + uniform(attempts[..., 1]) * log_span)
        w = np.rint(np.sqrt(area * ratio))  # [N, attempts]; halves to even, as Python's round
        h = np.rint(np.sqrt(area / ratio))
        fits = (w > 0) & (w <= side) & (h > 0) & (h <= side)

        row, first = np.arange(len(attempts)), fits.argmax(axis=1)
        some = fits.any(axis=1)
        central_h, central_w = law.central
        h = np.where(some, h[row, first], central_h).astype(np.int64)
        w = np.where(some, w[row, first], central_w).astype(np.int64)
        top = np.where(some, bounded(attempts[row, first, 2], side - h + 1), (side - h) // 2)
        left = np.where(some, bounded(attempts[row, first, 3], side - w + 1), (side - w) // 2)
        return np.stack([top, left, h, w], axis=1).astype(np.int32)

    def _central(self, side: int) -> tuple[int, int]:
        """Height and width of the largest crop within the range of ratios, at least one pixel each."""
        low, high = self.ratio
        if low > 1.0:
            return max(round(side / low), 1), side
        if high < 1.0:
            return side, max(round(side * high), 1)
        return side, side

    def apply(
        self,
        canvases: torch.Tensor,
        parameters: Parameters,
        *,
        image_size: int = 224,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> torch.Tensor:
        """Apply drawn parameters: crop, resize, flip, normalise. What they decide is exact, whatever ``dtype``.

        Args:
            canvases: uint8 ``[N, 1 or 3, S, S]``.
            parameters: what :meth:`draw` returned for N numbers and canvases of this size.
            image_size: side of the images in pixels.
            dtype: float32, float16, bfloat16 or float64; the arithmetic is float32's.
            memory_format: ``torch.contiguous_format`` or ``torch.channels_last``.

        Returns:
            ``[N, 3, image_size, image_size]``: the float32 values of Pillow's crop, resize and flips and of
            torchvision's ToTensor and Normalize, cast to ``dtype``.
        """
        return crop_and_normalise(canvases, parameters, image_size, self.mean, self.std, dtype, memory_format)
