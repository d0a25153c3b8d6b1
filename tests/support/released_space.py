"""The released rules of 3-D fractals written down once more, sequential and in float64, for the tests to compare with.

The camera is OpenGL's: matrices of rotation, view and projection, clipping, viewport, order of depth.
"""

import numpy as np
from numba import njit

THRESHOLD = 0.05


@njit
def space_game(maps, cumulative, uniforms):
    """The released chaos game: one point per uniform but the last, the origin left out; maps  # [M, 12] float64."""
    points = np.empty((len(uniforms) - 1, 3))
    x, y, z = 0.0, 0.0, 0.0
    for i in range(len(points)):
        k = 0
        while k < len(cumulative) - 1 and uniforms[i] > cumulative[k]:
            k += 1
        m = maps[k]
        x, y, z = (
            x * m[0] + y * m[1] + z * m[2] + m[9],
            x * m[3] + y * m[4] + z * m[5] + m[10],
            x * m[6] + y * m[7] + z * m[8] + m[11],
        )
        points[i, 0], points[i, 1], points[i, 2] = x, y, z
    return points


def normalised(points):
    """One range for all axes to [-1, 1], less the sum over the number of steps; points  # [n, 3] float64."""
    with np.errstate(invalid="ignore"):
        scaled = (points - points.min()) / (points.max() - points.min()) * 2.0 - 1.0
        return scaled - scaled.sum(0) / (len(points) + 1)


@njit
def least_variance(points):
    """The smallest variance of an axis of the normalised points, in one pass of sums; NaN if there is one."""
    low, high = points.min(), points.max()
    least = np.inf
    for axis in range(3):
        t = (points[:, axis] - low) / (high - low) * 2.0 - 1.0
        least = min(least, np.mean((t - np.mean(t)) ** 2))
        if np.isnan(least):
            break
    return least


def random_system(rng):
    """One candidate of the released search: maps [M, 12], cumulative probabilities [M]."""
    maps = rng.uniform(-1.0, 1.0, (rng.integers(2, 8), 12))
    shares = np.abs(np.linalg.det(maps[:, :9].reshape(-1, 3, 3)))
    return maps, np.cumsum(shares / shares.sum())


def accepted(maps, cumulative, rng, threshold=THRESHOLD):
    """What the released search says of a candidate."""
    points = space_game(maps, cumulative, rng.random(10_000))
    return bool(np.isfinite(points[-1]).all() and least_variance(points) > threshold)


def searched(count, rng):
    """The first ``count`` systems that the released search accepts, and the number of candidates it took."""
    found, tried = [], 0
    while len(found) < count:
        candidate = random_system(rng)
        tried += 1
        if accepted(*candidate, rng):
            found.append(candidate)
    return found, tried


def rotation(theta):
    """About the y axis, 3 x 3."""
    return np.array([[np.cos(theta), 0, np.sin(theta)], [0, 1, 0], [-np.sin(theta), 0, np.cos(theta)]])


def look_at(eye, centre, up):
    """The view matrix, 4 x 4."""
    forward = (centre - eye) / np.linalg.norm(centre - eye)
    side = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
    axes = np.array([side, np.cross(side, forward), -forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, -axes @ eye
    return matrix


def perspective(degrees, near, far):
    """The projection matrix of a square window, 4 x 4."""
    cotangent = 1.0 / np.tan(np.radians(degrees) / 2)
    matrix = np.zeros((4, 4))
    matrix[0, 0] = matrix[1, 1] = cotangent
    matrix[2, 2:] = -(far + near) / (far - near), -2 * far * near / (far - near)
    matrix[3, 2] = -1.0
    return matrix


def windows(points, theta, size):
    """Window coordinates and depth of the points that are not clipped, [n, 3]; points  # [n, 3] float64, normalised."""
    turned = rotation(theta)
    view = look_at(-4.0 * (turned @ [1.0, 0.0, 0.0]), np.zeros(3), turned @ [0.0, 1.0, 0.0])
    clip = np.c_[points, np.ones(len(points))] @ (perspective(45.0, 1.0, 100.0) @ view).T
    clip = clip[(np.abs(clip[:, :3]) <= clip[:, 3:]).all(axis=1)]
    device = clip[:, :3] / clip[:, 3:]
    return np.c_[(device[:, :2] + 1) * size / 2, (device[:, 2] + 1) / 2]


def photograph(points, theta, size):
    """The image as stored, lowest row first: uint8 [size, size]; the farthest points first, so the nearest stays."""
    image, seen = np.zeros((size, size), np.uint8), windows(points, theta, size)
    column, row = np.floor(seen[np.argsort(-seen[:, 2]), :2]).astype(int).T
    inside = (column < size) & (row < size)
    image[row[inside], column[inside]] = 255
    return image
