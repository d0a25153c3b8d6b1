"""Crop: a random resized crop, flips and normalisation, the augmentation that every training recipe begins with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.augment.normalise import HALVES, Triple, begin_crop, checked_mean, checked_std
from gpurender.augment.parameters import Parameters, size_stamp
from gpurender.augment.policy import Policy
from gpurender.augment.resize import INTERPOLATIONS
from gpurender.kernels.augment_params import CropParams, as_draw_ids, draw_crops
from gpurender.runtime.image_formats import ImageFormat
from gpurender.runtime.tensors import ordinary
from gpurender.util import checks, keywords

MAX_RATIO = 8192.0


@keywords.checked
@dataclass(frozen=True, kw_only=True)
class Crop(Policy[torch.Tensor]):
    """Random resized crop, random flips, normalisation; the crop is timm's (and torchvision's) random resized crop.

    In up to ten attempts, an area is drawn uniformly and an aspect ratio log-uniformly; the first pair that fits into
    the canvas is taken, at a uniform position. If none fits, the crop is the largest central one within the range of
    ratios. The crop is resized to the image's size, and no filter tap reads pixels outside the crop. (Szegedy et al.,
    "Going deeper with convolutions", CVPR 2015, section 6.)

    Args:
        scale: area of the crop, as a fraction of the canvas: a range in (0, 1].
        ratio: width / height of the crop before it is resized: a range in [1/8192, 8192].
        interpolation: ``"bicubic"``, ``"bilinear"``, ``"nearest"``, or ``"random"``: bilinear or bicubic for each
            sample, with equal probability.
        hflip: probability of a flip from left to right.
        vflip: probability of a flip from top to bottom.
        mean: three numbers, one per channel, 0 to 1: the value that becomes 0.
        std: three numbers, one per channel, 0.001 to 1000: the distance from the mean that becomes 1.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """

    capturable = True
    takes_bits = True
    takes_windows = True

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
        """Draw the crops and flips of draw ids; :mod:`gpurender.kernels.augment_params.cpu_crop` has the formula.

        Args:
            numbers: draw ids, unsigned 64-bit integers ``[N]``. With a tensor on a GPU the parameters are drawn there,
                and the host does not read its values.
            seed: unsigned 64-bit key.
            canvas_size: side of the canvases in pixels.
            image_size: side of the images in pixels, recorded in ``sizes``; nothing else depends on it.

        Returns:
            ``boxes`` int32 ``[N, 4]``: top, left, height, width; ``flips`` bool ``[N, 2]``: horizontal, vertical;
            ``interpolations`` uint8 ``[N]``: 0 nearest, 1 bilinear, 2 bicubic; ``sizes`` uint8
            ``[N, 0, canvas_size, image_size]``: an empty tensor whose shape records the sizes that the others were
            drawn for. All are on the GPU if the draw ids are, else on the CPU.
        """
        draw_ids = as_draw_ids(numbers)
        params = CropParams(self.scale, self.ratio, (self.hflip, self.vflip), INTERPOLATIONS.get(self.interpolation))
        boxes, flips, interpolations = draw_crops(draw_ids, seed, canvas_size, params)
        sizes = size_stamp(len(draw_ids), canvas_size, image_size, draw_ids.device)
        return {"boxes": boxes, "flips": flips, "interpolations": interpolations, "sizes": sizes}

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> torch.Tensor:
        """Crop, resize, flip and normalise."""
        return self._begin(canvases, parameters, image)()

    def _begin(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> Callable[[], torch.Tensor]:
        """Return the last launch of :meth:`_apply`; the others are done."""
        return begin_crop(canvases, parameters, image, self.mean, self.std)
