"""Visual atoms in Numba: the reference every other implementation equals byte for byte.

An atom is K closed polygons of q vertices around a centre, one inside the other (rings), each in its own grey over
what is there. Vertex j stands at the angle t_j = 2 pi j / q and carries the waves W_j = lambda1 sin(n1 t_j) + lambda2
sin(n2 t_j). Two rules place it:

released generator, a walk outwards (:func:`walk_out`), from x = cx + A cos t_j, y = cy + B sin t_j; ring after ring::

    x += cos t_j (eta + w + W_j - eta P)
    y += sin t_j (eta + w + W_j - eta P')

paper, equations 3 to 7 (:func:`place_orbit`), ring k = 0, 1, ...::

    x = cx + (A + k c) (1 + W_j + eta P) cos t_j
    y = cy + (B + k c) (1 + W_j + eta P) sin t_j

P, P' are Perlin noise (:func:`perlin`) at an abscissa uniform in [0, 10000), new for every ring, vertex and (P')
coordinate.

**Addresses.** The noise word of (ring, vertex, coordinate) is a pure function of these three. The block of the NOISE
stream is ``(ring // r) << 12 | vertex``, where r rings share the four words of a Philox call; ring ``ring % r`` of
these takes, by the walk (r = 2), word ``2 (ring % 2)`` for x and the next one for y; by the paper (r = 4), word
``ring % 4``. So whoever walks one vertex through the rings uses every word it draws. The grey of a ring is word
``ring % 4`` of block ``ring // 4`` of the LINE_COLOR stream.

**Lines** are Pillow's one-pixel lines: end points truncated toward zero, then Bresenham. Of a segment that goes
``long`` pixels along its longer axis and ``short`` along the other, pixel i = 0 .. long lies::

    m(i) = floor((2 short i + long) / (2 long))        pixels across, which is what the error term of Bresenham counts

A segment within the canvas is drawn by m in fixed point (:func:`plan`), without its last pixel, which is the first of
the next segment. One that crosses the edge goes by Bresenham's remainder from its first visible pixel to its last, both
in closed form (:func:`draw_crossing`).
"""

import numpy as np
import torch
from numba import float32, float64, int32, int64, njit, uint32, uint64

from gpurender.kernels.philox.cpu import philox4x32
from gpurender.kernels.visual_atom.tables import GRADIENTS
from gpurender.numerics.streams import Stream, halves
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

NOISE = np.uint32(Stream.NOISE)
LINE_COLOR = np.uint32(Stream.LINE_COLOR)

VERTEX_BITS = 12  # of a noise block's number; the rest is the ring's
PERIOD = 10_000  # abscissae of the noise
LIMIT = np.float32(2.0**20)  # of a coordinate in pixels; no valid recipe reaches it
FRACTION_BITS = 30  # of a slope


@njit(inline="always")
def perlin(cell, t):
    """Perlin noise on a line, at cell + t with 0 <= t < 1: the two ends' gradients, by 6 t^5 - 15 t^4 + 10 t^3."""
    left = GRADIENTS[cell & 255] * t
    right = GRADIENTS[(cell + 1) & 255] * (t - float32(1))
    fade = t * t * t * (t * (t * float32(6) - float32(15)) + float32(10))
    return (left + fade * (right - left)) * float32(0.4)


@njit(inline="always")
def noise(word):
    """Perlin noise at the abscissa 10000 word / 2^32, its fraction cut to 24 bits."""
    abscissa = uint64(word) * uint64(PERIOD)  # 32 bits of fraction
    return perlin(int32(abscissa >> uint64(32)), float32(uint32(abscissa) >> uint32(8)) * float32(2.0**-24))


@kernel
def draw_words(group, number, key, words):
    """The four noise words of every vertex for one group of rings; words  # [4, q] uint32."""
    for j in range(words.shape[1]):
        block = uint32(uint32(group << VERTEX_BITS) | uint32(j))
        words[0, j], words[1, j], words[2, j], words[3, j] = philox4x32(
            block, NOISE, number[0], number[1], key[0], key[1]
        )


@kernel
def ring_grey(ring, number, key, darkest, greys):
    """A grey uniform over darkest, ..., darkest + greys - 1, of a ring of an image."""
    four = philox4x32(uint32(ring // 4), LINE_COLOR, number[0], number[1], key[0], key[1])
    return np.uint8(uint64(darkest) + (uint64(four[ring % 4]) * uint64(greys) >> uint64(32)))


@kernel
def add_waves(frequencies, amplitudes, sines, waves):
    """waves[j] = lambda1 sin(n1 t_j) + lambda2 sin(n2 t_j), float32 [q], with sines[i] = sin t_i."""
    q = waves.shape[0]
    for j in range(q):
        first, second = sines[(frequencies[0] * j) % q], sines[(frequencies[1] * j) % q]
        waves[j] = amplitudes[0] * first + amplitudes[1] * second


@kernel
def start_walk(axes, centre, cosines, sines, x, y):
    """The ellipse the walk starts from (it is not drawn); x, y  # [q] float32."""
    for j in range(x.shape[0]):
        x[j] = cosines[j] * axes[0] + centre[0]
        y[j] = sines[j] * axes[1] + centre[1]


@kernel
def walk_out(words_x, words_y, noise_level, growth, waves, cosines, sines, x, y):
    """The next ring of the released rule, in place; growth = eta + w."""
    for j in range(x.shape[0]):
        outwards = growth + waves[j]
        x[j] += cosines[j] * (outwards - noise_level * noise(words_x[j]))
        y[j] += sines[j] * (outwards - noise_level * noise(words_y[j]))


@kernel
def place_orbit(words, noise_level, a, b, waves, centre, cosines, sines, x, y):
    """A ring of the paper's rule; a, b are the axes of its orbit."""
    for j in range(x.shape[0]):
        stretch = float32(1) + (waves[j] + noise_level * noise(words[j]))
        x[j] = centre[0] + a * stretch * cosines[j]
        y[j] = centre[1] + b * stretch * sines[j]


@njit(inline="always")
def truncate(coordinate):
    """Toward zero, as a C cast; a coordinate is kept within +-2^20 first."""
    return int32(min(max(coordinate, -LIMIT), LIMIT))


@kernel
def plan(x, y, size, lines):
    """The segments of a closed polygon, ready to draw; x, y float32 [q], lines int32 [7, q].

    Rows of lines: x and y of the vertex, then of the segment that ends there: its first pixel, the step along, the
    step across, the slope, and its number of pixels without the last one (at least 1) or, if it leaves the canvas, 0.

    The slope is short / long in units of 2^-30, rounded up by more than 0 and at most 2. As pixel i < long lies m(i)
    = floor(short i / long + 1/2) across, and short i / long + 1/2 stays 1 / (2 long) or more below the next integer,
    the excess, below 2 long 2^-30, never carries as long as 4 long^2 < 2^30: within the canvas long is below 2^13.
    """
    xs, ys, start, along, across, slope, count = lines
    q = x.shape[0]
    for j in range(q):
        xs[j], ys[j] = truncate(x[j]), truncate(y[j])
    for j in range(q):
        i = j - 1 if j else q - 1
        x0, y0, x1, y1 = xs[i], ys[i], xs[j], ys[j]
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        step_x, step_y = int32(1) if x1 >= x0 else int32(-1), int32(size) if y1 >= y0 else int32(-size)
        flat = dx > dy
        long, short = max(dx, dy, 1), min(dx, dy)
        start[j] = y0 * size + x0
        along[j] = step_x if flat else step_y
        across[j] = step_y if flat else step_x
        slope[j] = int32(float64(short) / float64(long) * float64(1 << FRACTION_BITS)) + 1
        last = size - 1
        leaves = (x0 | y0 | x1 | y1 | (last - x0) | (last - y0) | (last - x1) | (last - y1)) < 0
        count[j] = int32(0) if leaves else int32(long)


@kernel
def draw_polygon(x, y, grey, size, pixels, lines):
    """Draw the closed polygon x, y (float32 [q]) into pixels (uint8 [size * size]); lines int32 [7, q] is scratch."""
    plan(x, y, size, lines)
    xs, ys, start, along, across, slope, count = lines
    for j in range(x.shape[0]):
        if count[j] == 0:
            draw_crossing(xs[j - 1], ys[j - 1], xs[j], ys[j], grey, size, pixels)
        position, moved = int64(start[j]), int64(1) << (FRACTION_BITS - 1)
        for _ in range(count[j]):
            pixels[position + (moved >> FRACTION_BITS) * across[j]] = grey
            position += along[j]
            moved += slope[j]


@kernel
def draw_crossing(x0, y0, x1, y1, grey, size, pixels):
    """Draw the visible pixels of a segment, its last one included, wherever its ends are (within +-2^20)."""
    if max(x0, x1) < 0 or max(y0, y1) < 0 or min(x0, x1) >= size or min(y0, y1) >= size:
        return
    flat = abs(x1 - x0) > abs(y1 - y0)
    u0, v0, u1, v1 = (x0, y0, x1, y1) if flat else (y0, x0, y1, x1)  # u along, v across
    along, across = (1, size) if flat else (size, 1)
    long, short = max(int64(abs(u1 - u0)), 1), int64(abs(v1 - v0))
    u_step, v_step = 1 if u1 >= u0 else -1, 1 if v1 >= v0 else -1
    first, last = visible(u0, u_step, size)
    low, high = visible(v0, v_step, size)
    # m(i) >= low from some pixel on, m(i) >= high + 1 from another: these two bound what is seen of the shorter axis
    first, last = max(first, reach(low, long, short)), min(last, abs(u1 - u0))
    if high < short:
        last = min(last, reach(high + 1, long, short) - 1)
    m, rest = divmod(2 * short * first + long, 2 * long)
    pixel = (u0 + u_step * first) * along + (v0 + v_step * m) * across
    for _ in range(first, last + 1):
        pixels[pixel] = grey
        pixel += u_step * along
        rest += 2 * short
        if rest >= 2 * long:
            rest -= 2 * long
            pixel += v_step * across


@njit(inline="always")
def visible(start, step, size):
    """First and last i with 0 <= start + step i < size, step 1 or -1; the first is at least 0."""
    before, after = (-start, size - 1 - start) if step > 0 else (start - size + 1, start)
    return max(int64(before), 0), int64(after)


@njit(inline="always")
def reach(m, long, short):
    """The first i with m(i) >= m, for 0 <= m <= short: 2 short i + long >= 2 long m."""
    return (long * (2 * m - 1) + 2 * short - 1) // (2 * short) if m > 0 else int64(0)


@kernel
def draw_polygons(x, y, greys, canvas):
    """Draw closed polygons, each over those before; x, y float32 [K, q], greys uint8 [K], canvas uint8 [size, size]."""
    lines = np.empty((7, x.shape[1]), np.int32)
    for k in range(x.shape[0]):
        draw_polygon(x[k], y[k], greys[k], canvas.shape[0], canvas.ravel(), lines)


@kernel
def draw_atoms(
    first, last, walk, rings, vertices, frequencies, axes, growth, amplitudes, noise_levels, offsets, cosines, sines,
    which, centres, numbers, key, darkest, greys, canvases,
):  # fmt: skip
    """Images first to last - 1 of a batch, of the atoms which[n]; greys = how many, from the darkest on.

    canvases  # [N, size, size] uint8
    """
    group = 2 if walk else 4  # rings that share a Philox call
    for n in range(first, last):
        k, number, centre = which[n], numbers[n], centres[n]
        q, eta = vertices[k], noise_levels[k]
        cos_t, sin_t = cosines[offsets[k] : offsets[k] + q], sines[offsets[k] : offsets[k] + q]
        x, y, waves = np.empty(q, np.float32), np.empty(q, np.float32), np.empty(q, np.float32)
        words, lines = np.empty((4, q), np.uint32), np.empty((7, q), np.int32)
        pixels, size = canvases[n].ravel(), canvases.shape[1]
        add_waves(frequencies[k], amplitudes[k], sin_t, waves)
        start_walk(axes[k], centre, cos_t, sin_t, x, y)
        for ring in range(rings[k]):
            lane = ring % group
            if lane == 0:
                draw_words(ring // group, number, key, words)
            if walk:
                walk_out(words[2 * lane], words[2 * lane + 1], eta, eta + growth[k], waves, cos_t, sin_t, x, y)
            else:
                grown = growth[k] * float32(ring)
                place_orbit(words[lane], eta, axes[k, 0] + grown, axes[k, 1] + grown, waves, centre, cos_t, sin_t, x, y)
            draw_polygon(x, y, ring_grey(ring, number, key, darkest, greys), size, pixels, lines)


def draw_images(atoms, which, centres, numbers, greys, seed, size, walk):
    """uint8 [N, size, size]; arguments as :func:`gpurender.kernels.visual_atom.polyline`."""
    canvases = torch.zeros((len(which), size, size), dtype=torch.uint8, device="cpu")
    own = [tensor.contiguous().numpy() for tensor in atoms.tensors()]
    places, middles, pixels = which.contiguous().numpy(), centres.contiguous().numpy(), canvases.numpy()
    words = np.ascontiguousarray(numbers.numpy()).view(np.uint32).reshape(-1, 2)  # low word first
    key, lightness = np.array(halves(seed), dtype=np.uint32), (greys[0], greys[1] - greys[0] + 1)

    def work(first, last):
        draw_atoms(first, last, walk, *own, places, middles, words, key, *lightness, pixels)

    parallel_ranges(len(which), work)
    return canvases
