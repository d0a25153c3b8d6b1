"""Point clouds in Numba: the reference that every other implementation equals byte for byte.

An iterated function system in space is a set of affine maps, each chosen with a given probability. The game walks::

    x' = (a x + b y) + (c z + j)
    y' = (d x + e y) + (f z + k)        (a, ..., l) = map i with probability p_i
    z' = (g x + h y) + (i z + l)

from the origin, and a camera looks at the points that it visits. The steps of one image: :func:`play` computes the
points; :func:`extremes` and :func:`moments` find how the cloud is normalised; :func:`project` lights the pixel of each.

**One chain, as released.** The released game is one chain of 10,000 random choices. The origin is not one of its points
and nothing is left out at the beginning, so it has 9,999 points. The game here is the same chain, so the points have
the released distribution exactly, but for float32 and for a map's probability, which is off by at most 2^-16: sixteen
random bits per step are compared with cumulative probabilities in units of 2^-16. (The plane's 200,000 points need many
walkers. Here walkers would cost as much as they save, because their pilot takes 2,048 steps.)

**The end of a game.** Many systems do not contract, and their orbits grow without bound. A game ends before the first
point that leaves |x|, |y|, |z| <= 2^62. The points on the way out are the cloud; the last of them dwarf all others, so
the image is a few pixels. (The released program goes on in float64: it writes such an image, too, or, where it reaches
NaN, none.)

**Normalisation.** One range for all three axes, as released::

    t = U (x - low) / (high - low)      U = 2^20; low, high: the extremes of all coordinates of all points
    m = (sum of t + U / 2) / (n + 1)    the centroid of n points, per axis

The released coordinates are 2 t / U - 1 and lie in [-1, 1]. The released centroid divides the sum of n = 9,999 points
by 10,000: this is the mean of the points and of one more at 0, here the U / 2. Sums are of integers, t rounded, so that
they do not depend on the order. A cloud of one point (or narrower than 2^-60) has t = 0 everywhere.

**The camera.** It is at distance 4 from the centroid on the circle around the y axis and looks at the centroid, in the
direction (cos theta, 0, -sin theta). With X, Y, Z = t - m, and in units of U / 2::

    depth  = 4 + X cos theta - Z sin theta
    column = S/2 + (S/2) cot(22.5 deg) (X sin theta + Z cos theta) / depth
    row    = S/2 + (S/2) cot(22.5 deg) Y / depth

A point lights the pixel floor(column), floor(row) in which OpenGL's window coordinates fall, if the canvas has it. Row
0 is the lowest and is stored first: the released images are upside down. Three parts of the released rules need no
code: the depth test, because all points are white, so that the nearest point on a pixel looks as any other; the near
and far planes at 1 and 100, because coordinates less the centroid lie in [-2, 2], so that depths lie within
4 +- 2 sqrt(2); and the size of a point, one pixel. (A real OpenGL rounds window coordinates to a part of a pixel, often
1/256, before it takes the floor; this is left to the driver, and is not imitated.)
"""

import numpy as np
import torch
from numba import float32, int32, int64, njit, uint8, uint32

from gpurender.kernels.chaos_game.cpu_walk import extend, key_of, ordered, split, unpadded
from gpurender.kernels.philox.cpu import philox4x32
from gpurender.kernels.point_cloud.params import COTANGENT, DISTANCE, UNITS, WHITE
from gpurender.numerics.streams import Stream
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

POINTS = np.uint32(Stream.POINTS)
PICKS_A_CALL = 8  # picks of sixteen bits each, from the four words of one Philox call
CALLS = 128  # per block of steps: the maps of 1,024 steps are chosen at a time
LIMIT = np.float32(2.0**62)  # the span stays finite in float32
MIN_SPAN = np.float32(2.0**-60)  # a narrower cloud is treated as one point, so that denormals affect no pixel
HALF = np.float32(UNITS // 2)


@kernel
def choose(thresholds, first, key, number, words, which):
    """Set which[k, c] (uint8 [8, CALLS]) to the map of step 8 (first + c) + k; words  # [4, CALLS] uint32, scratch."""
    for c in range(words.shape[1]):
        words[0, c], words[1, c], words[2, c], words[3, c] = philox4x32(
            uint32(first + c), POINTS, number[0], number[1], key[0], key[1]
        )
    which[:] = 0
    for k in range(PICKS_A_CALL):
        for m in range(thresholds.shape[0] - 1):
            least = thresholds[m]
            for c in range(words.shape[1]):
                which[k, c] += uint8(((words[k // 2, c] >> uint32(16 * (k % 2))) & uint32(0xFFFF)) >= least)


@kernel
def play(maps, thresholds, key, number, xs, ys, zs):
    """Play the game: fill xs, ys, zs (float32 [n]) and return the number of points, n or less if the game ends before.

    maps  # [M, 12] float32; thresholds  # [M] uint32; key, number  # [2] uint32
    """
    words, which = np.empty((4, CALLS), np.uint32), np.empty((PICKS_A_CALL, CALLS), np.uint8)
    x, y, z = float32(0), float32(0), float32(0)
    for turn in range(xs.shape[0]):
        place = uint32(turn) % uint32(PICKS_A_CALL * CALLS)
        if place == 0:
            choose(thresholds, turn // PICKS_A_CALL, key, number, words, which)
        i = which[place % uint32(PICKS_A_CALL), place // uint32(PICKS_A_CALL)]
        next_x = (maps[i, 0] * x + maps[i, 1] * y) + (maps[i, 2] * z + maps[i, 9])
        next_y = (maps[i, 3] * x + maps[i, 4] * y) + (maps[i, 5] * z + maps[i, 10])
        next_z = (maps[i, 6] * x + maps[i, 7] * y) + (maps[i, 8] * z + maps[i, 11])
        if not (abs(next_x) <= LIMIT and abs(next_y) <= LIMIT and abs(next_z) <= LIMIT):  # NaN as well
            return turn
        x, y, z = next_x, next_y, next_z
        xs[turn], ys[turn], zs[turn] = x, y, z
    return xs.shape[0]


@kernel
def frame_of(xs, ys, zs):
    """Return the frame of a cloud, float32 [2]: its lowest coordinate, and the units U / (high - low) per length."""
    frame = np.empty(2, np.float32)
    bounds = frame.view(np.int32)
    bounds[0], bounds[1] = int32(0x7FFFFFFF), int32(-0x7FFFFFFF)
    extend(xs.view(np.int32), bounds)
    extend(ys.view(np.int32), bounds)
    extend(zs.view(np.int32), bounds)
    bounds[0], bounds[1] = ordered(bounds[0]), ordered(bounds[1])
    span = frame[1] - frame[0]
    frame[1] = float32(UNITS) / span if span >= MIN_SPAN else float32(0)
    return frame


@njit(forceinline=True)
def place_of(x, frame):
    """Return a coordinate in units from the lowest one, t."""
    return (x - frame[0]) * frame[1]


@kernel
def total(xs, frame):
    """Return the sum of the rounded t of one axis."""
    found = int64(0)
    for i in range(xs.shape[0]):
        found += int64(int32(place_of(xs[i], frame) + float32(0.5)))
    return found


@kernel
def total_of_squares(xs, frame):
    """Return the sum of the squares of the rounded t of one axis."""
    found = int64(0)
    for i in range(xs.shape[0]):
        t = int64(int32(place_of(xs[i], frame) + float32(0.5)))
        found += t * t
    return found


@njit(forceinline=True)
def mean_of(sum_of_places, count):
    """Return the released centroid m of one axis, from the sum of the rounded t of ``count`` points."""
    return float32(np.float64(2 * sum_of_places + UNITS) / np.float64(2 * (count + 1)))


@kernel
def project(xs, ys, zs, frame, camera, image):
    """Light the pixel of every point; camera  # [2] float32, cosine and sine; image  # [S, S] uint8."""
    size, count = image.shape[0], xs.shape[0]
    m_x, m_y, m_z = mean_of(total(xs, frame), count), mean_of(total(ys, frame), count), mean_of(total(zs, frame), count)
    cosine, sine = camera[0], camera[1]
    half, side = float32(0.5 * size), float32(size)
    focal, far = float32(0.5 * size * COTANGENT), float32(DISTANCE) * HALF
    pixels, flat = np.empty(1024, np.int32), image.ravel()
    for first in range(0, count, 1024):  # a chunk that stays in the L1 cache: pixels first, then scattered writes
        last = min(first + 1024, count)
        for i in range(last - first):
            x, y = place_of(xs[first + i], frame) - m_x, place_of(ys[first + i], frame) - m_y
            z = place_of(zs[first + i], frame) - m_z
            scale = focal / (far + (x * cosine - z * sine))
            column = (x * sine + z * cosine) * scale + half
            row = y * scale + half
            inside = (column >= float32(0)) & (column < side) & (row >= float32(0)) & (row < side)
            column, row = (column if inside else float32(0)), (row if inside else float32(0))
            pixels[i] = int32(row) * int32(size) + int32(column) if inside else int32(-1)
        for i in range(last - first):
            if pixels[i] >= 0:
                flat[uint32(pixels[i])] = WHITE


@kernel
def render_cloud(maps, thresholds, key, number, points, camera, image):
    """Render one image; image  # [S, S] uint8."""
    cloud = np.empty((3, points - 1), np.float32)
    count = play(maps, thresholds, key, number, cloud[0], cloud[1], cloud[2])
    image[:] = 0
    if count:
        xs, ys, zs = cloud[0, :count], cloud[1, :count], cloud[2, :count]
        project(xs, ys, zs, frame_of(xs, ys, zs), camera, image)


@kernel
def measure_cloud(maps, thresholds, key, number, points, found):
    """Set found (int64 [7]) to the number of points, and the sums of t and of its squares per axis.

    The sums stay 0 if the game ends early.
    """
    cloud = np.empty((3, points - 1), np.float32)
    found[:] = 0
    found[0] = play(maps, thresholds, key, number, cloud[0], cloud[1], cloud[2])
    if found[0] == points - 1:
        frame = frame_of(cloud[0], cloud[1], cloud[2])
        for axis in range(3):
            found[1 + axis], found[4 + axis] = total(cloud[axis], frame), total_of_squares(cloud[axis], frame)


# Implementations of the public functions: batches of tensors, one image per iteration of the loop, on all threads.


def render_clouds(systems, draw_ids, cameras, seed, points, size):
    """Render images; uint8 [N, size, size]; arguments as in :func:`gpurender.kernels.point_cloud.render_clouds`."""
    images = host_memory.empty((len(systems), size, size), np.uint8)
    own, key = unpadded(systems), key_of(seed)
    words, directions = split(draw_ids), cameras.numpy()

    def work(first, last):
        for n in range(first, last):
            render_cloud(*own(n), key, words[n], points, directions[n], images[n])

    parallel_ranges(len(images), work)
    return torch.from_numpy(images)


def moments(systems, draw_ids, seed, points):
    """Measure clouds; int64 [N, 7]; arguments as in :func:`gpurender.kernels.point_cloud.moments`."""
    found = np.empty((len(systems), 7), np.int64)
    own, key, words = unpadded(systems), key_of(seed), split(draw_ids)

    def work(first, last):
        for n in range(first, last):
            measure_cloud(*own(n), key, words[n], points, found[n])

    parallel_ranges(len(found), work)
    return torch.from_numpy(found)
