"""Noise of independent pixels in Numba: the reference that every other implementation equals byte for byte.

Pixel p = row x size + column has the first three words of block p of the PIXEL_NOISE stream. A word u becomes

    normal     +-z of the table of quantiles, as numerics/quantiles.py says, interpolated in float32
    uniform    (u div 2^8 - 2^23) 2^-23, in [-1, 1)

and channel c is, in float32 and from left to right::

    v = ((o + f0 z0) + f1 z1) + f2 z2 + 1/2,  the byte trunc(min(max(v, 0), 255))
"""

import numpy as np
import torch
from numba import float32, int32, njit, uint8, uint32

from gpurender.kernels.philox.cpu import philox4x32
from gpurender.kernels.pixel_noise.tables import normal_quantiles
from gpurender.numerics.quantiles import ONE
from gpurender.numerics.streams import Stream, halves
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

PIXEL_NOISE = np.uint32(Stream.PIXEL_NOISE)
FIRST_CELL = np.int32(ONE)
RUN = 8192  # pixels whose variates, 96 KB, stay in the cache while the images of one draw id use them


@njit(inline="always")
def normal_variate(word, table):
    """Return the standard normal variate of a word, float32."""
    bits = np.float32(uint32((word & uint32(0x7FFFFFFF)) + uint32(1))).view(np.int32)
    cell = int32((bits >> int32(16)) - FIRST_CELL)
    share = float32(float32(bits & int32(0xFFFF)) * float32(2.0**-16))
    low = table[cell]
    z = float32(low + float32(float32(table[cell + 1] - low) * share))
    return -z if word >> uint32(31) else z


@njit(inline="always")
def uniform_variate(word):
    """Return the variate in [-1, 1) of a word, float32."""
    return float32(float32(int32(word >> uint32(8)) - int32(1 << 23)) * float32(2.0**-23))


@kernel
def draw_variates(first, normal, table, number, key, variates):
    """Draw the variates of the pixels from ``first`` on. variates  # [3, pixels] float32"""
    for i in range(variates.shape[1]):
        words = philox4x32(uint32(first + i), PIXEL_NOISE, number[0], number[1], key[0], key[1])
        if normal:
            variates[0, i] = normal_variate(words[0], table)
            variates[1, i] = normal_variate(words[1], table)
            variates[2, i] = normal_variate(words[2], table)
        else:
            variates[0, i] = uniform_variate(words[0])
            variates[1, i] = uniform_variate(words[1])
            variates[2, i] = uniform_variate(words[2])


@kernel
def fill_pixels(coefficients, variates, out):
    """Compute pixels of an image. coefficients  # [3, 4] float32; out  # [3, pixels] uint8"""
    z0, z1, z2 = variates[0], variates[1], variates[2]
    for c in range(3):
        o, f0, f1, f2 = coefficients[c, 0], coefficients[c, 1], coefficients[c, 2], coefficients[c, 3]
        target = out[c]
        for i in range(len(target)):
            v = float32(float32(o + float32(f0 * z0[i])) + float32(f1 * z1[i]))
            v = float32(float32(v + float32(f2 * z2[i])) + float32(0.5))
            target[i] = uint8(int32(min(max(v, float32(0)), float32(255))))


def pixels(coefficients: torch.Tensor, draw_ids: torch.Tensor, normal: bool, seed: int, size: int) -> torch.Tensor:
    """Render noise; uint8 [N, 3, size, size]; as :func:`gpurender.kernels.pixel_noise.pixels`."""
    images = host_memory.empty((len(coefficients), 3, size * size), np.dtype(np.uint8))
    laws, numbers = coefficients.numpy(), np.ascontiguousarray(draw_ids.numpy()).view(np.uint32).reshape(-1, 2)
    table, key = normal_quantiles(torch.device("cpu")).numpy(), np.array(halves(seed), np.uint32)

    def work(begin: int, end: int) -> None:
        memory = np.empty((3, RUN), np.float32)
        for first in range(0, size * size, RUN):
            variates = memory[:, : size * size - first]
            for n in range(begin, end):
                if n == begin or (numbers[n] != numbers[n - 1]).any():
                    draw_variates(first, normal, table, numbers[n], key, variates)
                fill_pixels(laws[n], variates, images[n, :, first : first + RUN])

    parallel_ranges(len(images), work)
    return torch.from_numpy(images).view(-1, 3, size, size)
