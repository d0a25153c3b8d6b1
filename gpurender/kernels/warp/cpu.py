"""Warps in Numba: the reference that every other implementation equals byte for byte.

In float32, from left to right::

    x = (2 i + 1 - S) (1 / S),  y = (2 j + 1 - S) (1 / S)
    u = c0 + c1 x + c2 y + c3 (x x) + c4 (x y) + c5 (y y),  the column;  v likewise of d, the row
    with a field of G x G control points F: u += F0's spline,  v += F1's spline, at (i, j):
        (2 i + 1) (G - 3) = 2 S k + r,  t = r / 2 S,  s = 1 - t
        w(t) = s^3 / 6,  (3 t^3 - 6 t^2 + 4) / 6,  (3 s^3 - 6 s^2 + 4) / 6,  t^3 / 6;  along j likewise
        sum over the columns k + 0 ... 3 of w times the sums of a column's rows, in this order
    p = floor(u), q = floor(v), a = u - p, b = v - q

    upper = I[q, p] + (I[q, p+1] - I[q, p]) a,  lower likewise in row q + 1
    byte  = trunc(upper + (lower - upper) b + 1/2)

Pixels of I beyond its edge are 0, and so is the byte unless -1 < u < S and -1 < v < S.
"""

import numpy as np
import torch
from numba import float32, int32, njit, uint8, uint64

from gpurender.kernels.warp.params import MORE
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges


@njit(inline="always")
def along(c, x, y, xx, xy, yy):
    """Return a polynomial at (x, y), float32."""
    value = float32(float32(c[0] + float32(c[1] * x)) + float32(c[2] * y))
    value = float32(value + float32(c[3] * xx))
    return float32(float32(value + float32(c[4] * xy)) + float32(c[5] * yy))


@njit(inline="always")
def outer(t):
    """Return the last weight of the spline at t in [0, 1), float32; the first one is that at 1 - t."""
    return float32(float32(float32(t * t) * t) * float32(1.0 / 6.0))


@njit(inline="always")
def middle(t):
    """Return the second weight of the spline at t, float32; the third one is that at 1 - t."""
    square = float32(t * t)
    value = float32(float32(float32(3) * float32(square * t)) - float32(float32(6) * square))
    return float32(float32(value + float32(4)) * float32(1.0 / 6.0))


@njit(inline="always")
def weighted(w, c0, c1, c2, c3):
    """Return the sum of four values times weights, float32."""
    total = float32(float32(w[0] * c0) + float32(w[1] * c1))
    return float32(float32(total + float32(w[2] * c2)) + float32(w[3] * c3))


@kernel
def fill_spline(size, cells, first, weights):
    """Compute the first control point of each pixel along an axis, int32 [S], and its weights, float32 [S, 4]."""
    for i in range(size):
        place = (2 * i + 1) * cells
        first[i] = place // (2 * size)
        t = float32(float32(int32(place % (2 * size))) / float32(2 * size))
        s = float32(float32(1) - t)
        weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3] = outer(s), middle(t), middle(s), outer(t)


@kernel
def fill_sums(field, first, weights, sums):
    """Sum the rows of each column of control points. field  # [2, G, G]; sums  # [2, G] float32"""
    for axis in range(2):
        rows = field[axis, first : first + 4]
        for g in range(sums.shape[1]):
            sums[axis, g] = weighted(weights, rows[0, g], rows[1, g], rows[2, g], rows[3, g])


@kernel
def fill_places(coefficients, sums, first, weights, j, u, v):
    """Compute the columns u and rows v that row j of a copy shows. sums  # [2, G] float32, of the row; u, v  # [S]"""
    size = len(u)
    unit = float32(float32(1) / float32(size))
    y = float32(float32(int32(2 * j + 1 - size)) * unit)
    yy = float32(y * y)
    c, d = coefficients[0], coefficients[1]
    for i in range(size):
        x = float32(float32(int32(2 * i + 1 - size)) * unit)
        xx, xy = float32(x * x), float32(x * y)
        u[i], v[i] = along(c, x, y, xx, xy, yy), along(d, x, y, xx, xy, yy)
    if sums.shape[1] == 0:
        return
    for i in range(size):
        k, w = first[i], weights[i]
        u[i] = float32(u[i] + weighted(w, sums[0, k], sums[0, k + 1], sums[0, k + 2], sums[0, k + 3]))
        v[i] = float32(v[i] + weighted(w, sums[1, k], sums[1, k + 1], sums[1, k + 2], sums[1, k + 3]))


@kernel
def fill_row(flat, u, v, out):
    """Interpolate a row of a channel. flat  # [(S + 2)^2] uint8, I with zeros around it; u, v, out  # [S]"""
    size, pitch, limit = len(u), uint64(len(u) + 2), float32(len(u))
    for i in range(size):
        if not (u[i] > float32(-1) and u[i] < limit and v[i] > float32(-1) and v[i] < limit):
            out[i] = uint8(0)
            continue
        p, q = int32(float32(u[i] + float32(1))), int32(float32(v[i] + float32(1)))  # 1 + floor: columns of padded
        p, q = min(p, int32(size)), min(q, int32(size))  # u + 1 may round up
        a, b = float32(u[i] - float32(p - int32(1))), float32(v[i] - float32(q - int32(1)))
        k = uint64(q) * pitch + uint64(p)  # unsigned: an index that never counts from the end
        left, right = float32(flat[k]), float32(flat[k + uint64(1)])
        upper = float32(left + float32(float32(right - left) * a))
        left, right = float32(flat[k + pitch]), float32(flat[k + pitch + uint64(1)])
        lower = float32(left + float32(float32(right - left) * a))
        value = float32(upper + float32(float32(lower - upper) * b))
        out[i] = uint8(int32(min(float32(value + float32(0.5)), float32(255))))


@kernel
def warp(flat, coefficients, field, first, weights, out):
    """Compute a copy. flat  # [C, (S + 2)^2]; field  # [2, G, G]; first, weights: of :func:`fill_spline`"""
    sums, u, v = (
        np.empty(field.shape[:2], np.float32),
        np.empty(out.shape[2], np.float32),
        np.empty(out.shape[2], np.float32),
    )
    for j in range(out.shape[1]):
        if len(first):
            fill_sums(field, first[j], weights[j], sums)
        fill_places(coefficients, sums, first, weights, j, u, v)
        for c in range(len(out)):
            fill_row(flat[c], u, v, out[c, j])


def warped(image: torch.Tensor, coefficients: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Render copies; uint8 [N, C, S, S]; as :func:`gpurender.kernels.warp.warped`; without a field G is 0."""
    images = host_memory.empty((len(coefficients), *image.shape), np.dtype(np.uint8))
    padded = np.pad(image.numpy(), ((0, 0), (1, 1), (1, 1))).reshape(len(image), -1)
    laws, fields = coefficients.numpy(), field.numpy()
    size, points = image.shape[1], field.shape[2]
    first, weights = np.empty(size if points else 0, np.int32), np.empty((size, 4), np.float32)
    if points:
        fill_spline(size, points - MORE, first, weights)

    def work(begin: int, end: int) -> None:
        for n in range(begin, end):
            warp(padded, laws[n], fields[n], first, weights, images[n])

    parallel_ranges(len(images), work)
    return torch.from_numpy(images)
