"""The released rules of coloured fractals (Anderson & Farrell, WACV 2022) written down once more, plainly: float64,
NumPy.

Colours come from ``colorsys``, bilinear resizing from its definition: nothing here is from the library.
"""

import colorsys
import math

import numpy as np
from numba import njit

from tests.support.released import sequential_singular_values


def sampled_system(rng, maps=(2, 4)):
    """A contractive system, [n, 2, 3]: rotations times reflections around the singular values."""
    n = int(rng.integers(maps[0], maps[1] + 1))
    alpha = rng.uniform((5 + n) / 2, (6 + n) / 2)
    system = np.empty((n, 2, 3))
    for i, values in enumerate(sequential_singular_values(n, alpha, rng)):
        u, v = (rotation(rng.uniform(-np.pi, np.pi)) @ np.diag(rng.choice([-1.0, 1.0], 2)) for _ in range(2))
        system[i, :, :2] = u @ np.diag(values) @ v
        system[i, :, 2] = rng.uniform(-1, 1, 2)
    return system


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def jittered(system, rng):
    """The default variation: one map times a factor, tried four times, until no singular value exceeds 1."""
    for _ in range(4):
        changed = system.copy()
        changed[rng.integers(len(system))] *= rng.uniform(0.8, 1.1)
        if np.linalg.svd(changed[:, :, :2], compute_uv=False).max() <= 1:
            return changed
    return system


def game(system, points, rng):
    """The points of one sequential game from the fixed point of the first map, which is not plotted; [points, 2]."""
    weights = np.abs(np.linalg.det(system[:, :, :2]))
    chosen = rng.choice(len(system), points, p=weights / weights.sum())
    start = np.linalg.solve(np.eye(2) - system[0, :, :2], system[0, :, 2])
    return _game(system, chosen, start)


@njit
def _game(system, chosen, start):
    x, y = start[0], start[1]
    found = np.empty((len(chosen), 2))
    for i in range(len(chosen)):
        m = system[chosen[i]]
        x, y = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]
        found[i, 0], found[i, 1] = x, y
    return found


def window(points, rng=None):
    """The window of a view, [2, 2] (first corner, second corner): of all points, or moved and zoomed."""
    low, high = points.min(0), points.max(0)
    if rng is None:
        return np.array([low, high])
    extent, centre = high - low, (low + high) / 2
    centre = centre + extent * rng.uniform(-0.2, 0.2, 2)
    half = extent * rng.uniform(0.5, 2.0, 2) / 2
    return np.array([centre - half, centre + half])


def density(points, corners, patch, size):
    """Patches that cover each pixel, relative to the largest number; patch: bool [3, 3]."""
    span = corners[1] - corners[0]
    places = np.trunc((points - corners[0]) * ((size - 1) / np.where(span > 0, span, 1))).astype(int)
    counted = np.zeros((size, size))
    for i, j in np.argwhere(patch):
        rows, columns = places[:, 0] + i - 1, places[:, 1] + j - 1
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        np.add.at(counted, (rows[inside], columns[inside]), 1)
    return counted / max(counted.max(), 1)


def hsv_bytes(hue, saturation, value):
    """RGB of bytes, hues in units of two degrees, truncated."""
    r, g, b = colorsys.hsv_to_rgb(hue / 180 % 1.0, saturation / 255, value / 255)
    return [int(255 * x + 1e-6) for x in (r, g, b)]


def coloured(densities, rng):
    """Colours of densities, uint8 [S, S, 3]."""
    shift, saturation, value = rng.uniform(0, 255), int(rng.uniform(0.3, 1) * 255), int(rng.uniform(0.5, 1) * 255)
    palette = np.array([hsv_bytes(hue, saturation, value) for hue in range(256)], np.uint8)
    hues = (densities * 255 + shift).astype(int) % 256
    return np.where((densities > 0)[..., None], palette[hues], 0).astype(np.uint8)


def heights(levels, decay, rng):
    """Diamond-square heights, [2^levels + 1, 2^levels + 1], whole arrays at a time."""
    grid = rng.uniform(0, 1, (2, 2))
    for k in range(1, levels + 1):
        m = 0.5 * math.exp(decay * (1 - k))
        wide = np.zeros((2 * len(grid) - 1,) * 2)
        wide[::2, ::2] = grid
        middle = 0.25 * (grid[:-1, :-1] + grid[:-1, 1:] + grid[1:, :-1] + grid[1:, 1:])
        wide[1::2, 1::2] = middle + rng.uniform(-m, m, middle.shape)
        padded = np.pad(wide, 1)
        padded[0, 1:-1], padded[-1, 1:-1] = wide[-2], wide[1]  # the neighbours beyond an edge are those of the other
        padded[1:-1, 0], padded[1:-1, -1] = wide[:, -2], wide[:, 1]
        mean = 0.25 * (padded[:-2, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] + padded[2:, 1:-1])
        odd = np.add.outer(np.arange(len(wide)), np.arange(len(wide))) % 2 == 1
        grid = np.where(odd, mean + rng.uniform(-m, m, mean.shape), wide)
    return grid


def background(size, rng):
    """A texture, uint8 [size, size, 3]."""
    x = heights(math.ceil(math.log2(size)), rng.uniform(0.4, 0.8), rng)[:size, :size]
    hue = (x * rng.uniform(0.25, 1) * 255 + rng.uniform(0, 1) * 255).astype(int) % 256
    saturation = np.minimum(x * rng.uniform(0.1, 0.3) * 255 + rng.uniform(0.4, 0.6) * 255, 255).astype(int) % 256
    value = np.minimum(x * rng.uniform(0.3, 0.6) * 255 + rng.uniform(0.4, 0.6) * 255, 255).astype(int) % 256
    flat = [hsv_bytes(*each) for each in zip(hue.flat, saturation.flat, value.flat, strict=True)]
    return np.array(flat, np.uint8).reshape(size, size, 3)


def turned(image, rng):
    """Transposed and flipped at random."""
    image = image.swapaxes(0, 1) if rng.random() < 0.5 else image
    image = image[::-1] if rng.random() < 0.5 else image
    return image[:, ::-1] if rng.random() < 0.5 else image


def resized(image, side):
    """Bilinear, between the centres of pixels, rounded to bytes."""
    place = np.clip((np.arange(side) + 0.5) * len(image) / side - 0.5, 0, len(image) - 1)
    first = np.minimum(place.astype(int), len(image) - 2)
    share = (place - first)[:, None, None]
    rows = image[first] * (1 - share) + image[first + 1] * share
    share = share.swapaxes(0, 1)
    return np.rint(rows[:, first] * (1 - share) + rows[:, first + 1] * share).astype(np.uint8)


def pasted(canvas, pixels, top, left):
    """Cover a canvas in place with the pixels that are not black."""
    for y, x in np.argwhere(pixels.any(-1)):
        if 0 <= top + y < len(canvas) and 0 <= left + x < len(canvas):
            canvas[top + y, left + x] = pixels[y, x]


def blurred(image, sigma):
    """Gaussian of 3 x 3 pixels, mirrored at the edge, rounded to bytes."""
    kernel = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * sigma**2))
    kernel /= kernel.sum()
    wide = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    size = len(image)
    total = sum(kernel[i] * kernel[j] * wide[i : i + size, j : j + size] for i in range(3) for j in range(3))
    return np.rint(total).astype(np.uint8)


def image(size, points, rng, *, textured=True):
    """An image of one fractal, uint8 [size, size, 3]."""
    found = game(jittered(sampled_system(rng), rng), points, rng)
    drawn = coloured(turned(density(found, window(found, rng), rng.random((3, 3)) < 0.5, size), rng), rng)
    canvas = background(size, rng) if textured else np.zeros((size, size, 3), np.uint8)
    pasted(canvas, drawn, 0, 0)
    return blurred(canvas, rng.uniform(0.5, 1)) if rng.random() < 0.5 else canvas


def collage(size, points, rng):
    """An image of one to five fractals, uint8 [size, size, 3], every one new, on black instead of a texture."""
    canvas = np.zeros((size, size, 3), np.uint8)
    for _ in range(rng.integers(1, 6)):
        found = game(sampled_system(rng), points, rng)
        drawn = coloured(turned(density(found, window(found), rng.random((3, 3)) < 0.5, size // 2), rng), rng)
        side = int(rng.uniform(0.15, 0.6) * size)
        top, left = rng.integers(-(side // 2), size - side // 2, 2)
        pasted(canvas, resized(drawn, side), top, left)
    return blurred(canvas, rng.uniform(0.5, 1)) if rng.random() < 0.5 else canvas
