"""Canny's edge detector in NumPy, equal to scikit-image's for grey images in [0, 1].

Source: Canny, "A Computational Approach to Edge Detection" (TPAMI 1986). Steps, thresholds and borders are those of
``skimage.feature.canny`` with sigma 1::

    smooth        by a Gaussian of 9 x 9 pixels; beyond the edge the image is unknown, not black
    gradient      by Sobel's 3 x 3 filters; magnitude = sqrt(gi^2 + gj^2)
    thin          keep pixels that are no smaller than the magnitudes one step along and against the gradient, which are
                  interpolated between two neighbours
    link          keep the 8-connected pixels of at least ``low`` that touch one of at least ``high``

Everything is + - x / and square roots of float64 arrays, and a table: the same edges on every machine.
"""

from collections.abc import Sequence

import numpy as np

# exp(-x^2 / 2) for x = -4 ... 0, divided by the sum over x = -4 ... 4
GAUSSIAN = tuple(
    float.fromhex(weight)
    for weight in (
        "0x1.18a9c4fd536c6p-13", "0x1.22724cb7eb269p-8", "0x1.ba4b99d1799abp-5", "0x1.ef8eb9ad499bap-3",
        "0x1.9884a307594fbp-2",
    )
)  # fmt: skip
STEPS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def edges(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the edges of an image, bool ``[H, W]``; none lie on the outermost pixels.

    Args:
        grey: float64 ``[H, W]`` in [0, 1], at least 3 x 3.
        low, high: thresholds of the magnitude; low <= high.
    """
    smoothed = _smooth(grey) / (_smooth(np.ones_like(grey)) + np.finfo(np.float64).eps)
    gi, gj = _sobel(smoothed, 0), _sobel(smoothed, 1)
    magnitude = np.sqrt(gi * gi + gj * gj)
    weak = _thinned(gi, gj, magnitude, float(np.float32(low)) or 1e-14)  # scikit-image rounds this one to float32
    return _linked(weak, weak & (magnitude >= high))


def _smooth(image: np.ndarray) -> np.ndarray:
    """Return an image convolved with the Gaussian, rows first; beyond the edge it is 0."""
    for axis in (0, 1):
        reach, size = len(GAUSSIAN) - 1, image.shape[axis]
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)])
        parts = [padded.take(range(k, k + size), axis) for k in range(2 * reach + 1)]
        image = parts[reach] * GAUSSIAN[reach]
        for k in range(reach):
            image = image + (parts[k] + parts[2 * reach - k]) * GAUSSIAN[k]
    return image


def _sobel(image: np.ndarray, axis: int) -> np.ndarray:
    """Return the derivative of an image along an axis; the image is mirrored at its edge."""
    before, _, after = _three(image, axis)
    left, middle, right = _three(after - before, 1 - axis)
    return middle * 2.0 + (left + right)


def _three(image: np.ndarray, axis: int) -> Sequence[np.ndarray]:
    """Return an image moved by one pixel forwards, the image, and the image moved backwards."""
    size = image.shape[axis]
    padded = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
    return [padded.take(range(k, k + size), axis) for k in range(3)]


def _thinned(gi: np.ndarray, gj: np.ndarray, magnitude: np.ndarray, low: float) -> np.ndarray:
    """Return the pixels of at least ``low`` at which the magnitude has a maximum along the gradient, bool [H, W]."""
    inner = np.zeros(magnitude.shape, bool)
    inner[1:-1, 1:-1] = True
    i, j = np.nonzero(inner & (magnitude >= low))
    gi, gj, here = gi[i, j], gj[i, j], magnitude[i, j]
    di, dj = np.where(gi > 0, 1, -1), np.where(gj > 0, 1, -1)  # the diagonal neighbour along the gradient
    steep = np.abs(gi) > np.abs(gj)
    ai, aj = np.where(steep, di, 0), np.where(steep, 0, dj)  # the other one
    share = np.minimum(np.abs(gi), np.abs(gj)) / np.maximum(np.abs(gi), np.abs(gj))
    kept = np.ones(len(i), bool)
    for way in (1, -1):
        diagonal, straight = magnitude[i + way * di, j + way * dj], magnitude[i + way * ai, j + way * aj]
        kept &= diagonal * share + straight * (1.0 - share) <= here
    weak = np.zeros(magnitude.shape, bool)
    weak[i[kept], j[kept]] = True
    return weak


def _linked(weak: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """Return the weak pixels that are connected to a strong one, bool [H, W]; none is outermost."""
    width = weak.shape[1]
    steps = np.array([i * width + j for i, j in STEPS])
    left, front = weak.ravel() & ~strong.ravel(), np.flatnonzero(strong)
    while len(front):
        around = (front[:, None] + steps).ravel()
        front = np.unique(around[left[around]])
        left[front] = False
    return weak & ~left.reshape(weak.shape)
