"""The released rules written down once more, sequential and in float64, for the tests to compare with."""

import numpy as np
from numba import njit


@njit
def sequential_game(maps, cumulative, uniforms):
    """The released chaos game: point 0 is the origin, then one map a uniform. maps  # [M, 6] float64"""
    count = len(uniforms)
    xs, ys = np.zeros(count), np.zeros(count)
    x, y = 0.0, 0.0
    for i in range(count - 1):
        k = 0
        while k < len(cumulative) - 1 and uniforms[i] > cumulative[k]:
            k += 1
        x, y = (
            x * maps[k, 0] + y * maps[k, 1] + maps[k, 4],
            x * maps[k, 2] + y * maps[k, 3] + maps[k, 5],
        )
        xs[i + 1], ys[i + 1] = x, y
    return xs, ys


def pixels(xs, ys, size, pad=6):
    """Columns and rows of points: min-max to the padded frame, truncated."""
    xs, ys = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    columns = ((xs - xs.min()) / (xs.max() - xs.min()) * (size - 2 * pad) + pad).astype(np.uint16)
    rows = ((ys - ys.min()) / (ys.max() - ys.min()) * (size - 2 * pad) + pad).astype(np.uint16)
    return columns, rows


def patches(columns, rows, size):
    """Pixels under opaque 3 x 3 patches pasted at (x + 1, y + 1), upside down as stored; bool [size, size]."""
    covered = np.zeros((size, size), bool)
    for dy in (1, 2, 3):
        for dx in (1, 2, 3):
            covered[rows.astype(int) + dy, columns.astype(int) + dx] = True
    return covered[::-1]


def masked_patches(columns, rows, size, rng):
    """The released image itself: for every point in order an opaque patch of nine random bits, never all zero; bool
    [size, size].
    """
    image = np.zeros((size, size), bool)
    masks = (rng.integers(1, 512, len(columns))[:, None] >> np.arange(9)) & 1
    for x, y, mask in zip(columns.astype(int), rows.astype(int), masks.reshape(-1, 3, 3).astype(bool), strict=True):
        image[y + 1 : y + 4, x + 1 : x + 4] = mask
    return image[::-1]


def iou(a, b):
    """Intersection over union of two bool arrays."""
    return (a & b).sum() / (a | b).sum()


def sequential_singular_values(maps, alpha, rng):
    """Anderson & Farrell's sampler, one value after the other: [maps, 2] with sum(s1 + 2 s2) = alpha."""
    p, q, pairs = alpha, alpha - 3 * maps + 3, []
    for _ in range(maps - 1):
        s1 = rng.uniform(max(0, q / 3), min(1, p))
        p, q = p - s1, q - s1
        s2 = rng.uniform(max(0, q / 2), min(s1, p / 2))
        p, q = p - 2 * s2, q - 2 * s2 + 3
        pairs.append((s1, s2))
    s2 = rng.uniform(max(0, (p - 1) / 2), p / 3)
    return np.array([*pairs, (p - 2 * s2, s2)])
