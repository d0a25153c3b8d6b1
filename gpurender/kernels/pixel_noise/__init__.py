"""Noise of independent pixels: the three channels of a pixel are an affine map of three variates."""

import torch

from gpurender.kernels.pixel_noise.params import COEFFICIENTS, MAX_SIZE
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor
from gpurender.util import checks

__all__ = ["COEFFICIENTS", "pixels"]


def pixels(coefficients: torch.Tensor, draw_ids: torch.Tensor, *, normal: bool, seed: int, size: int) -> torch.Tensor:
    """Render one image per row of coefficients, on their device.

    Channel c of a pixel is ``o + f0 z0 + f1 z1 + f2 z2``, rounded and clipped to a byte, where o, f0, f1, f2 are the
    image's coefficients of channel c, and z0, z1, z2 the pixel's variates.

    Args:
        coefficients: float32 ``[N, 3, 4]``, finite, in levels of a byte.
        draw_ids: int64 ``[N]`` (the bits of uint64): images of one draw id have the same variates.
        normal: whether variates are standard normal; otherwise they are uniform in [-1, 1).
        seed: unsigned 64-bit key.
        size: side of the canvas in pixels, 1 to 8192.

    Returns:
        uint8 ``[N, 3, size, size]`` on the device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    coefficients = checked_tensor("coefficients", coefficients, (torch.float32,), (None, *COEFFICIENTS))
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (len(coefficients),), coefficients.device)
    normal, size = checks.boolean("normal", normal), checks.integer("size", size, 1, MAX_SIZE)
    implementation = dispatch.implementation("pixel_noise", coefficients.device)
    return implementation.pixels(coefficients, draw_ids, normal, seed, size)
