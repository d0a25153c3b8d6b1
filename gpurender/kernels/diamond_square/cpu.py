"""Diamond-square textures in Numba: the reference that every other implementation equals byte for byte.

The heights lie on a grid of (2^n + 1)^2 points, the smallest with n = ceil(log2 S). The corners are U(0, 1). Level k =
1 ... n halves the distance d = 2^(n-k) of neighbours, in two steps, with noise U(-m, m), m = decay^(k-1) / 2::

    diamond   centres of squares (odd row and odd column in units of d):  mean of the four corners + noise
    square    centres of edges (row + column odd):  mean of the points above, left, right and below + noise

Beyond the edge the neighbour is that of the opposite edge. All points of a step depend on earlier steps alone. Sums are
float32, in the order above, (a + b + c) + d; diamond: upper left, upper right, lower left, lower right. The first S
rows and columns x are coloured::

    H = trunc(hue_scale x + hue_shift) mod 256
    S = trunc(min(saturation_scale x + saturation_shift, 255)) mod 256, and V likewise

and converted to RGB as ``device/cpu_hsv.py`` says.

**Addresses.** Point i of step t (diamond of level k: t = 2 k - 2, square: 2 k - 1) has word i mod 4 of block t 2^27 + i
div 4 of the BACKGROUND stream. Diamonds are numbered row by row; the point of a square step in row r and column c, in
units of d, is number r (2^(k-1) + 1) + c div 2. The four corners have block 31 2^27. The squares of the last level are
computed in the canvas's rows alone.
"""

import numpy as np
import torch
from numba import float32, int32, njit, uint32

from gpurender.kernels.device.cpu_hsv import rgb
from gpurender.kernels.diamond_square.params import CORNERS, STEP_BITS, levels
from gpurender.kernels.philox.cpu import philox4x32
from gpurender.numerics.streams import Stream, halves
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

BACKGROUND = np.uint32(Stream.BACKGROUND)
HALF_WORD = np.int32(1 << 23)
UNIT = np.float32(2.0**-23)


@kernel
def draw_words(step, count, number, key, words):
    """Fill words (uint32) with those of the points of a step, four at a time."""
    first = uint32(uint32(step) << uint32(STEP_BITS))
    for i in range((count + 3) // 4):
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = philox4x32(
            uint32(first + uint32(i)), BACKGROUND, number[0], number[1], key[0], key[1]
        )


@njit(inline="always")
def noise(word, amplitude):
    """Return U(-amplitude, amplitude) from a word, float32."""
    return float32(float32(float32(int32(word >> uint32(8)) - HALF_WORD) * UNIT) * amplitude)


@njit(inline="always")
def mean(a, b, c, d):
    """Return the mean of four heights, summed from left to right in float32."""
    return float32(float32(float32(float32(a + b) + c) + d) * float32(0.25))


@kernel
def fill_corners(number, key, heights):
    """Draw the corners of heights  # [side, side] float32."""
    last = heights.shape[0] - 1
    words = np.empty(4, np.uint32)
    draw_words(CORNERS, 4, number, key, words)
    for i in range(4):
        heights[(i // 2) * last, (i % 2) * last] = float32(words[i] >> uint32(8)) * float32(2.0**-24)


@kernel
def diamonds(level, amplitude, words, heights):
    """Compute the centres of the squares of a level."""
    side = heights.shape[0]
    d, across = (side - 1) >> level, 1 << (level - 1)
    for i in range(across):
        row = (2 * i + 1) * d
        above, target, below = heights[row - d], heights[row], heights[row + d]
        for j in range(across):
            column = (2 * j + 1) * d
            height = mean(above[column - d], above[column + d], below[column - d], below[column + d])
            target[column] = float32(height + noise(words[i * across + j], amplitude))


@kernel
def squares(level, rows, amplitude, words, heights):
    """Compute the centres of the edges of a level in the first ``rows`` rows."""
    side = heights.shape[0]
    d, across, width = (side - 1) >> level, 1 << level, (1 << (level - 1)) + 1
    for i in range(across + 1):
        row = i * d
        if row >= rows:
            break
        above = heights[row - d if i > 0 else side - 1 - d]
        target = heights[row]
        below = heights[row + d if i < across else d]
        for j in range(1 - i % 2, across + 1, 2):
            column = j * d
            left = column - d if j > 0 else side - 1 - d
            right = column + d if j < across else d
            height = mean(above[column], target[left], target[right], below[column])
            target[column] = float32(height + noise(words[i * width + j // 2], amplitude))


def fill_heights(decay, size, number, key, words, heights):
    """Compute all heights of a texture. words  # uint32, long enough for the last step; heights  # [side, side]."""
    last = levels(size)
    amplitude = np.float32(0.5)
    fill_corners(number, key, heights)
    for level in range(1, last + 1):
        across = 1 << level
        draw_words(2 * level - 2, across * across // 4, number, key, words)
        diamonds(level, amplitude, words, heights)
        rows = size if level == last else across + 1  # no later level looks at the others
        draw_words(2 * level - 1, rows * (across // 2 + 1), number, key, words)
        squares(level, size if level == last else len(heights), amplitude, words, heights)
        amplitude = amplitude * decay


@njit(inline="always")
def wrapped(x):
    """Return the lowest byte of x truncated, int32."""
    return int32(x) & int32(255)


@kernel
def colour(heights, law, unit, image):
    """Colour heights. law  # [7] float32, as Texture; image  # [3, size, size] uint8"""
    size, most = image.shape[1], float32(255)
    for row in range(size):
        line, red, green, blue = heights[row], image[0, row], image[1, row], image[2, row]
        for column in range(size):
            x = line[column]
            hue = wrapped(float32(float32(law[1] * x) + law[2]))
            saturation = wrapped(min(float32(float32(law[3] * x) + law[4]), most))
            value = wrapped(min(float32(float32(law[5] * x) + law[6]), most))
            red[column], green[column], blue[column] = rgb(hue, float32(saturation), float32(value), unit)


def textures(parameters: torch.Tensor, draw_ids: torch.Tensor, seed: int, size: int, hue_unit: float) -> torch.Tensor:
    """Render textures; uint8 [N, 3, size, size]; as :func:`gpurender.kernels.diamond_square.textures`."""
    images = host_memory.empty((len(parameters), 3, size, size), np.dtype(np.uint8))
    side = (1 << levels(size)) + 1
    laws, numbers = parameters.numpy(), np.ascontiguousarray(draw_ids.numpy()).view(np.uint32).reshape(-1, 2)
    key, unit = np.array(halves(seed), np.uint32), np.float32(hue_unit)

    def work(first: int, last: int) -> None:
        heights = np.zeros((side, side), np.float32)
        words = np.empty(side * (side // 2 + 1) + 4, np.uint32)
        for n in range(first, last):
            fill_heights(laws[n, 0], size, numbers[n], key, words, heights)
            colour(heights, laws[n], unit, images[n])

    parallel_ranges(len(images), work)
    return torch.from_numpy(images)
