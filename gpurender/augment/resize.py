"""Resizing without randomness: the function, and the policy that ``augment=None`` stands for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpurender.augment.normalise import HALVES, Triple, begin_crop, checked_mean, checked_std
from gpurender.augment.parameters import Parameters, size_stamp
from gpurender.augment.policy import Policy
from gpurender.kernels.augment_params import as_draw_ids
from gpurender.kernels.resized_crop import BICUBIC, BILINEAR, MAX_SIDE, NEAREST, check_boxes, crop_resize
from gpurender.runtime.image_formats import ImageFormat
from gpurender.runtime.tensors import ordinary, readable
from gpurender.util import checks, keywords

INTERPOLATIONS = {"nearest": NEAREST, "bilinear": BILINEAR, "bicubic": BICUBIC}


@ordinary
def resized_crop(
    images: torch.Tensor, boxes: Any, size: int | Sequence[int], interpolation: str = "bicubic"
) -> torch.Tensor:
    """Crop each image to its box and resize the crop: Pillow's ``image.crop(box).resize(size, filter)``, byte for byte.

    >>> gr.augment.resized_crop(images, [[0, 0, 100, 80]], 224)  # uint8 [1, C, 224, 224]

    Args:
        images: uint8 ``[N, C, H, W]``, on a CPU or a GPU.
        boxes: integers of any type ``[N, 4]``, or lists of them: top, left, height, width in pixels, inside the image.
            Boxes on a GPU are not checked but moved into the image there.
        size: side of the output in pixels, or its (height, width); 1 to 65535.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``; the last two are antialiased when they shrink.

    Returns:
        uint8 ``[N, C, height, width]`` on the images' device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    code = INTERPOLATIONS[checks.choice("interpolation", interpolation, tuple(INTERPOLATIONS))]
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
        got = f"{images.dtype} {list(images.shape)}" if isinstance(images, torch.Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor [N, C, H, W], got {got}")
    if not isinstance(size, (list, tuple)):
        size = (checks.integer("size", size, 1, MAX_SIDE),) * 2
    boxes, seen = _boxes(boxes), not isinstance(boxes, torch.Tensor) or readable(boxes)
    if seen and not readable(images):
        if boxes.shape == (len(images), 4):
            check_boxes(boxes, *images.shape[2:])
        boxes = boxes.to(images.device)
    flips = torch.zeros((len(images), 2), dtype=torch.bool, device=images.device)
    interpolations = torch.full((len(images),), code, dtype=torch.uint8, device=images.device)
    return crop_resize(images, boxes, flips, interpolations, size)


def _boxes(boxes: Any) -> torch.Tensor:
    """Convert boxes to a tensor and widen narrow integers; the launcher refuses types that are not integers."""
    try:
        if isinstance(boxes, (list, tuple)) and not all(checks.is_sequence(row, 4) for row in boxes):
            raise TypeError
        tensor = boxes if isinstance(boxes, torch.Tensor) else torch.as_tensor(boxes, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"boxes must be integers [N, 4]: top, left, height, width, got {checks.shown(boxes)}") from None
    if tensor.shape == (0,):  # an empty list, which torch converts to floats
        return tensor.to(torch.int64).reshape(0, 4)
    integers = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return tensor.to(torch.int64) if integers and tensor.dtype != torch.int32 else tensor


@keywords.checked
@dataclass(frozen=True, kw_only=True)
class Resize(Policy[torch.Tensor]):
    """The whole canvas, resized to the image's size and normalised; nothing is random. ``augment=None`` stands for it.

    Args:
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.
        mean: three numbers, one per channel, 0 to 1: the value that becomes 0.
        std: three numbers, one per channel, 0.001 to 1000: the distance from the mean that becomes 1.
    """

    capturable = True
    takes_bits = True

    interpolation: str = "bicubic"
    mean: Triple = HALVES
    std: Triple = HALVES

    def __post_init__(self) -> None:
        checks.choice("interpolation", self.interpolation, tuple(INTERPOLATIONS))
        object.__setattr__(self, "mean", checked_mean(self.mean))
        object.__setattr__(self, "std", checked_std(self.std))

    @ordinary
    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Return parameters as :meth:`gpurender.augment.Crop.draw`, but the same for every draw id and seed."""
        draw_ids = as_draw_ids(numbers)
        n, device = len(draw_ids), draw_ids.device
        checks.integer("seed", seed, 0, checks.UINT64_MAX)
        side = checks.integer("canvas_size", canvas_size, 1, MAX_SIDE)
        boxes = torch.zeros((n, 4), dtype=torch.int32, device=device)
        boxes[:, 2:] = side  # filled on the device: a tensor made of a list would be copied to it
        return {
            "boxes": boxes,
            "flips": torch.zeros((n, 2), dtype=torch.bool, device=device),
            "interpolations": torch.full((n,), INTERPOLATIONS[self.interpolation], dtype=torch.uint8, device=device),
            "sizes": size_stamp(n, side, image_size, device),
        }

    def _apply(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> torch.Tensor:
        """Resize and normalise."""
        return self._begin(canvases, parameters, image)()

    def _begin(self, canvases: torch.Tensor, parameters: Parameters, image: ImageFormat) -> Callable[[], torch.Tensor]:
        """Return the last launch of :meth:`_apply`; the others are done."""
        return begin_crop(canvases, parameters, image, self.mean, self.std)
