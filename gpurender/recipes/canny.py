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
REACH = len(GAUSSIAN) - 1
STEPS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def edges(grey: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the edges of an image, bool ``[H, W]``; none lie on the outermost pixels.

    Args:
        grey: float64 ``[H, W]`` in [0, 1], at least 3 x 3.
        low, high: thresholds of the magnitude; low <= high.
    """
    smoothed = _smooth(grey) / (_known(grey.shape) + np.finfo(np.float64).eps)
    gi, gj = _sobel(smoothed, 0), _sobel(smoothed, 1)
    magnitude = np.sqrt(gi * gi + gj * gj)
    weak = _thinned(gi, gj, magnitude, float(np.float32(low)) or 1e-14)  # scikit-image rounds this one to float32
    return _linked(weak, weak & (magnitude >= high))


def _smooth(image: np.ndarray) -> np.ndarray:
    """Return an image convolved with the Gaussian, rows first; beyond the edge it is 0."""
    for axis in (0, 1):
        padded = np.pad(image, [(REACH, REACH) if a == axis else (0, 0) for a in (0, 1)])
        parts = _moved(padded, axis, 2 * REACH + 1)
        image = parts[REACH] * GAUSSIAN[REACH]
        for k in range(REACH):
            pair = parts[k] + parts[2 * REACH - k]
            pair *= GAUSSIAN[k]
            image += pair
    return image


def _known(shape: tuple[int, ...]) -> np.ndarray:
    """Return the weight of the known pixels around each one, ``_smooth(np.ones(shape))``; one pixel stands for all
    that are far enough from an edge.
    """
    known = _smooth(np.ones([min(n, 2 * REACH + 1) for n in shape]))
    for axis, n in enumerate(shape):
        if n > 2 * REACH + 1:
            known = np.repeat(known, [1] * REACH + [n - 2 * REACH] + [1] * REACH, axis)
    return known


def _sobel(image: np.ndarray, axis: int) -> np.ndarray:
    """Return the derivative of an image along an axis; the image is mirrored at its edge."""
    before, _, after = _three(image, axis)
    left, middle, right = _three(after - before, 1 - axis)
    return middle * 2.0 + (left + right)


def _three(image: np.ndarray, axis: int) -> Sequence[np.ndarray]:
    """Return an image moved by one pixel forwards, the image, and the image moved backwards."""
    return _moved(np.pad(image, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric"), axis, 3)


def _moved(padded: np.ndarray, axis: int, count: int) -> list[np.ndarray]:
    """Return the windows of a padded image along an axis, from the first to the last."""
    size = padded.shape[axis] - count + 1
    return [padded[k : k + size] if axis == 0 else padded[:, k : k + size] for k in range(count)]


def _thinned(gi: np.ndarray, gj: np.ndarray, magnitude: np.ndarray, low: float) -> np.ndarray:
    """Return the pixels of at least ``low`` at which the magnitude has a maximum along the gradient, bool [H, W]."""
    weak = magnitude >= low
    weak[[0, -1]] = weak[:, [0, -1]] = False
    at, flat, row = np.flatnonzero(weak), magnitude.ravel(), magnitude.shape[1]
    gi, gj, here = gi.ravel()[at], gj.ravel()[at], flat[at]
    down, across = np.where(gi > 0, row, -row), np.where(gj > 0, 1, -1)  # along the gradient
    gi, gj = np.abs(gi), np.abs(gj)
    straight = np.where(gi > gj, down, across)  # of the two neighbours; the other one is the diagonal
    share = np.minimum(gi, gj) / np.maximum(gi, gj)
    kept = np.ones(len(at), bool)
    for way in (1, -1):
        kept &= flat[at + way * (down + across)] * share + flat[at + way * straight] * (1.0 - share) <= here
    weak.ravel()[at] = kept
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
