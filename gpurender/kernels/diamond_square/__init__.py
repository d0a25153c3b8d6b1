"""Diamond-square textures: parameters in, coloured uint8 canvases out."""

import torch

from gpurender.kernels.diamond_square.params import PARAMETERS, Texture
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor
from gpurender.util import checks

__all__ = ["PARAMETERS", "Texture", "textures"]

MAX_SIZE = 8192


def textures(
    parameters: torch.Tensor, draw_ids: torch.Tensor, *, seed: int, size: int, hue_unit: float
) -> torch.Tensor:
    """Render one texture per row of parameters, on their device.

    Args:
        parameters: float32 ``[N, 7]``, columns as in :class:`Texture`: the factor of the noise from level to level, and
            scale and shift of hue, saturation and value, in bytes.
        draw_ids: int64 ``[N]`` (the bits of uint64), draw ids of the heights.
        seed: unsigned 64-bit key.
        size: side of the canvas in pixels, 2 to 8192.
        hue_unit: sixths of a turn per unit of the hue's byte: 6/180 in OpenCV, 6/256 where a byte is one turn.

    Returns:
        uint8 ``[N, 3, size, size]`` on the device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.

    Source: Fournier, Fussell & Carpenter (1982) for the algorithm; Anderson & Farrell, "Improving Fractal Pre-training"
    (WACV 2022), and its released generator for the numbers and the colours. ``cpu.py`` has the formulas.
    """
    parameters = checked_tensor("parameters", parameters, (torch.float32,), (None, len(PARAMETERS)))
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (len(parameters),), parameters.device)
    size = checks.integer("size", size, 2, MAX_SIZE)
    implementation = dispatch.implementation("diamond_square", parameters.device)
    return implementation.textures(parameters, draw_ids, seed, size, hue_unit)
