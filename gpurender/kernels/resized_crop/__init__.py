"""Crop, resize, flip and normalise, bit for bit as Pillow and torchvision."""

from collections.abc import Callable, Sequence

import torch

from gpurender.kernels.device.bit_canvases import BitCanvases
from gpurender.kernels.device.boxes import check_boxes
from gpurender.kernels.resized_crop.params import BICUBIC, BILINEAR, MAX_SIDE, NEAREST
from gpurender.runtime import dispatch
from gpurender.runtime.image_formats import check_memory_format, checked_table
from gpurender.runtime.tensors import checked_tensor, readable
from gpurender.util import checks

WITH_BITS = ("cpu", "gpu")  # backends whose implementations resize canvases of one bit per pixel

__all__ = [
    "BICUBIC",
    "BILINEAR",
    "MAX_SIDE",
    "NEAREST",
    "BitCanvases",
    "begin_crop_resize_normalise",
    "check_boxes",
    "crop_resize",
    "crop_resize_normalise",
    "takes_bits",
]


def crop_resize(
    canvases: torch.Tensor | BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    size: Sequence[int],
) -> torch.Tensor:
    """Crop each image to its box, resize the crop and flip the result.

    Crop and resize give the bytes of ``image.crop(box).resize(size, filter)`` in Pillow 13 as built for x86-64: earlier
    versions resize the axes in another order, and a build that fuses multiply-adds may round a weight differently. The
    flip from left to right follows, then the flip from top to bottom. Bilinear and bicubic are antialiased when they
    shrink.

    Args:
        canvases: uint8 ``[N, C, S, S']``, or :class:`BitCanvases` where the device takes them (:func:`takes_bits`).
        boxes: int32 or int64 ``[N, 4]``: top, left, height, width in pixels, inside the image.
        flips: bool ``[N, 2]``: horizontal, vertical.
        interpolations: uint8 ``[N]``: 0 nearest, 1 bilinear, 2 bicubic.
        size: height and width of the output, 1 to 65535.

    All tensors are on one device. On a GPU the values of boxes and interpolations are not checked, because reading them
    would make the host wait: the kernel moves a box into the image and treats a code above 2 as 2.

    Returns:
        uint8 ``[N, C, H, W]`` on the canvases' device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    height, width = _size(size)
    given = _checked(canvases, boxes, flips, interpolations)
    return dispatch.implementation("resized_crop", canvases.device).crop_resize(*given, (height, width))


def crop_resize_normalise(
    canvases: torch.Tensor | BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    lut: torch.Tensor,
    size: Sequence[int],
    memory_format: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """Do :func:`crop_resize`, then ``out[n, c] = lut[c][resized[n, c]]``: normalise by look-up, in any floating dtype.

    A grey canvas (C = 1) is resized once and looked up three times. Pillow resizes the channels of an RGB image one by
    one with the same weights, so three equal channels would stay equal.

    Args:
        canvases: uint8 ``[N, 1 or 3, S, S']``, or :class:`BitCanvases` where the device takes them.
        lut: float32, float16, bfloat16 or float64 ``[3, 256]``: the value of each byte in each channel; ``[1, 256]`` if
            the channels have the same.
        boxes, flips, interpolations, size: as in :func:`crop_resize`.
        memory_format: memory format of the result: ``torch.contiguous_format`` or ``torch.channels_last``.

    Returns:
        ``[N, 3, H, W]`` of the table's dtype, on the canvases' device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    return begin_crop_resize_normalise(canvases, boxes, flips, interpolations, lut, size, memory_format)()


def begin_crop_resize_normalise(
    canvases: torch.Tensor | BitCanvases,
    boxes: torch.Tensor,
    flips: torch.Tensor,
    interpolations: torch.Tensor,
    lut: torch.Tensor,
    size: Sequence[int],
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[], torch.Tensor]:
    """Do :func:`crop_resize_normalise` except for its last launch; return that, a function that makes the images.

    The last launch only reads what the others have made, so it may be called any number of times.
    """
    height, width = _size(size)
    given = _checked(canvases, boxes, flips, interpolations)
    if canvases.shape[1] not in (1, 3):
        raise ValueError(f"canvases must have 1 or 3 channels, got shape {list(canvases.shape)}")
    table = checked_table(lut, canvases.device)
    check_memory_format(memory_format)
    implementation = dispatch.implementation("resized_crop", canvases.device)
    return implementation.begin_crop_resize_normalise(*given, table, (height, width), memory_format)


def takes_bits(device: torch.device) -> bool:
    """Return whether the implementation for a device resizes :class:`BitCanvases`."""
    return dispatch.backend(device) in WITH_BITS


def _checked(
    canvases: torch.Tensor | BitCanvases, boxes: torch.Tensor, flips: torch.Tensor, interpolations: torch.Tensor
) -> tuple[torch.Tensor | BitCanvases, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Check everything that the kernels rely on, and return the four arguments, tensors contiguous."""
    if not isinstance(canvases, BitCanvases):
        canvases = checked_tensor("canvases", canvases, (torch.uint8,), (None, None, None, None))
    elif not takes_bits(canvases.device):
        raise TypeError(f"canvases must be a uint8 tensor on {canvases.device}, got BitCanvases")
    n, _, height, width = canvases.shape
    if n and not (height and width):
        raise ValueError(f"canvases must have sides of 1 or more, got shape {list(canvases.shape)}")
    boxes = checked_tensor("boxes", boxes, (torch.int32, torch.int64), (n, 4), canvases.device)
    flips = checked_tensor("flips", flips, (torch.bool,), (n, 2), canvases.device)
    interpolations = checked_tensor("interpolations", interpolations, (torch.uint8,), (n,), canvases.device)
    if readable(boxes):
        check_boxes(boxes, height, width)
        if n and (worst := int(interpolations.max())) > BICUBIC:
            raise ValueError(f"interpolations must be {NEAREST}, {BILINEAR} or {BICUBIC}, got {worst}")
        boxes = boxes.to(torch.int32)
    return canvases, boxes, flips, interpolations


def _size(size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2:
        raise ValueError(f"size must be (height, width), got {checks.shown(size)}")
    return checks.integer("size[0]", size[0], 1, MAX_SIDE), checks.integer("size[1]", size[1], 1, MAX_SIDE)
