"""Contractive systems of a given sigma-factor, the sum over all maps of s1 + 2 s2, s1 >= s2 the singular values.

Source: Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022), section 3.2, and the authors' released
sampler: A_i = U_i diag(s_i1, s_i2) V_i with U, V random rotations times random reflections, and translations U(-1, 1).
A random angle is a normalised point of the unit disc: no cosine is needed.

Everything is float64 and + - * / and square roots of NumPy, one operation at a time, so that a system has the same bits
on every machine.
"""

import numpy as np

from gpurender.kernels.philox import uniform, words
from gpurender.numerics.streams import Stream

BATCH = 8192  # candidates per call of NumPy: 70 MB of random words


def sample(seed: int, candidates: np.ndarray, maps: int, low: float, width: float) -> np.ndarray:
    """Return systems, float64 ``[N, maps, 6]`` (a, b, c, d, e, f), whose sigma-factors are drawn from U(low, low +
    width), at most 3 x maps, with which no map contracts.

    Args:
        seed: unsigned 64-bit key.
        candidates: uint64 ``[N]`` below 2**32, numbers of the systems.
        maps: maps per system.
        low, width: of the range of sigma-factors.
    """
    pieces = [candidates[first : first + BATCH] for first in range(0, max(1, len(candidates)), BATCH)]
    return np.concatenate([_sample(seed, piece.astype(np.uint64), maps, low, width) for piece in pieces])


def _sample(seed: int, candidates: np.ndarray, maps: int, low: float, width: float) -> np.ndarray:
    numbers = candidates << np.uint64(32)
    u = uniform(words(seed, Stream.SYSTEM, numbers, blocks=(1 + 4 * maps + 3) // 4))
    alpha = np.minimum(low + width * u[:, 0], 3.0 * maps)
    values = _singular_values(maps, alpha, u[:, 1 : 1 + 2 * maps])
    systems = np.empty((len(candidates), maps, 6))
    for i, (s1, s2) in enumerate(values):
        uc, us, ux, uy = _frames(seed, numbers + np.uint64(1 + 2 * i))
        vc, vs, vx, vy = _frames(seed, numbers + np.uint64(2 + 2 * i))
        # U = [[uc ux, -us uy], [us ux, uc uy]] and V likewise: rotation times diag of signs
        left = (uc * ux * s1, -us * uy * s2, us * ux * s1, uc * uy * s2)
        right = (vc * vx, -vs * vy, vs * vx, vc * vy)
        systems[:, i, 0] = left[0] * right[0] + left[1] * right[2]
        systems[:, i, 1] = left[0] * right[1] + left[1] * right[3]
        systems[:, i, 2] = left[2] * right[0] + left[3] * right[2]
        systems[:, i, 3] = left[2] * right[1] + left[3] * right[3]
        for axis in (0, 1):
            systems[:, i, 4 + axis] = 2.0 * u[:, 1 + 2 * maps + 2 * i + axis] - 1.0
    return systems


def _singular_values(maps: int, alpha: np.ndarray, u: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs 1 >= s1 >= s2 >= 0 with sum(s1 + 2 s2) = alpha, each value uniform in the interval that the others
    leave (the released sequential sampler).

    alpha  # [N]; u  # [N, 2 maps], uniform
    """
    pairs = []
    left, slack = alpha, alpha - 3.0 * maps + 3.0  # rest of alpha; minimum for this map if all later ones take 3
    for i in range(maps - 1):
        low, high = np.maximum(0.0, slack / 3.0), np.minimum(1.0, left)
        s1 = low + (high - low) * u[:, 2 * i]
        left, slack = left - s1, slack - s1
        low, high = np.maximum(0.0, slack / 2.0), np.minimum(s1, left / 2.0)
        s2 = low + (high - low) * u[:, 2 * i + 1]
        left, slack = left - 2.0 * s2, slack - 2.0 * s2 + 3.0
        pairs.append((s1, s2))
    low, high = np.maximum(0.0, (left - 1.0) / 2.0), left / 3.0
    s2 = low + (high - low) * u[:, 2 * maps - 2]
    return [*pairs, (left - 2.0 * s2, s2)]


def _frames(seed: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return cosine and sine of a uniform angle, and two random signs, [N] each, of draw ids uint64 [N]."""
    cosine, sine = np.ones(len(numbers)), np.zeros(len(numbers))
    signs = np.empty((2, len(numbers)))
    left = np.arange(len(numbers))
    for blocks in (2, 16):  # three points of the square, of which one is in the disc but for 1 %; then all 31
        block = words(seed, Stream.SYSTEM, numbers[left], blocks)
        signs[:, left] = np.where(block[:, :2].T & 1, 1.0, -1.0)
        u = 2.0 * uniform(block[:, 2 : 2 + (4 * blocks - 2) // 2 * 2]) - 1.0
        x, y = u[:, 0::2], u[:, 1::2]
        square = x * x + y * y
        inside = (square > 2.0**-20) & (square <= 1.0)
        hit = inside.any(axis=1)
        first = inside.argmax(axis=1)[hit, None]
        length = np.sqrt(np.take_along_axis(square[hit], first, 1)[:, 0])
        cosine[left[hit]] = np.take_along_axis(x[hit], first, 1)[:, 0] / length
        sine[left[hit]] = np.take_along_axis(y[hit], first, 1)[:, 0] / length
        left = left[~hit]  # all 31 points outside the disc: once in 10^20, and the angle is then 0
    return cosine, sine, signs[0], signs[1]
