"""Collages: coloured objects pasted on canvases, which are then blurred."""

import torch

from gpurender.kernels.collage.params import MAX_BLUR, MAX_SIDE, Objects
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor, readable

__all__ = ["MAX_BLUR", "MAX_SIDE", "Objects", "collages"]


def collages(objects: Objects, backgrounds: torch.Tensor, blurs: torch.Tensor, *, hue_unit: float) -> torch.Tensor:
    """Paste objects on backgrounds, in order, and blur the result.

    A pixel of an object covers the canvas unless it is black. The density x of an object becomes the colour with the
    hue trunc(255 x + hue) mod 256 and the object's saturation and value, black if x is 0. Objects are turned, and
    resized bilinearly to their sides. The blur is a Gaussian of 3 x 3 pixels. Resize and blur are OpenCV's for uint8
    images in fixed point: the blur to the byte, the resize to one level.

    Args:
        objects: K objects of each of the N canvases.
        backgrounds: uint8 ``[N, 3, S, S]`` on the objects' device; it is not changed.
        blurs: int32 ``[N]``, w, 0 to 85; 0: no blur.
        hue_unit: sixths of a turn per unit of the hue's byte.

    Returns:
        uint8 ``[N, 3, S, S]`` on the device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    device = objects.densities.device
    backgrounds = checked_tensor("backgrounds", backgrounds, (torch.uint8,), (None, 3, None, None), device)
    count, _, size, width = backgrounds.shape
    if size != width or not 2 <= size <= MAX_SIDE:
        raise ValueError(f"backgrounds must be square, of 2 to {MAX_SIDE} pixels, got {size} x {width}")
    blurs = checked_tensor("blurs", blurs, (torch.int32,), (count,), device)
    if readable(blurs) and not ((blurs >= 0) & (blurs <= MAX_BLUR)).all():
        raise ValueError(f"blurs must lie in [0, {MAX_BLUR}], got {int(blurs.min())} to {int(blurs.max())}")
    if len(objects) % max(count, 1) or (not count and len(objects)):
        raise ValueError(f"objects must be the same number for each of {count} canvases, got {len(objects)}")
    implementation = dispatch.implementation("collage", device)
    return implementation.collages(objects, backgrounds, blurs, hue_unit)
