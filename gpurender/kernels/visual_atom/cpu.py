"""Visual atoms in Numba: the reference that every other implementation equals byte for byte.

An atom is K closed polygons (rings) of q vertices around a centre, one inside the other, each rendered in its own grey
over the earlier ones. Vertex j lies at the angle t_j = 2 pi j / q and carries the waves W_j = lambda1 sin(n1 t_j) +
lambda2 sin(n2 t_j). Two rules place the vertex:

released generators, a walk outwards (:func:`walk_out`), from x = cx + A cos t_j, y = cy + B sin t_j; ring after ring::

    x += cos t_j (eta + w + W_j - eta P)
    y += sin t_j (eta + w + W_j - eta P')

paper of VisualAtom, equations 3 to 7 (:func:`place_orbit`), ring k = 0, 1, ...::

    x = cx + (A + k c) (1 + W_j + eta P) cos t_j
    y = cy + (B + k c) (1 + W_j + eta P) sin t_j

P, P' are Perlin noise (:func:`perlin`) at an abscissa uniform in [0, 10000), new for every ring, vertex and (P')
coordinate. By the rule of smooth orbits P is a function on the circle instead, new for every ring
(:func:`smooth_noise`)::

    P_j = Perlin noise at the abscissa (u + 32 j / q) mod 32 of 32 cells closed to a circle, u uniform in [0, 32)

A vertex by itself has the same distribution of P by both rules; only neighbours differ.

An RCDB polygon is an atom without waves (lambda1 = lambda2 = 0): with the Perlin coefficient c and the step w of its
class the released program moves a vertex outwards by c + w - 2 c P, so eta = 2 c and the growth is w - c.

**Addresses.** The noise word of (ring, vertex, coordinate) is a pure function of these three. The block of the NOISE
stream is ``(ring // r) << 12 | vertex``, where r rings share the four words of a Philox call. By the walk (r = 2), a
ring takes word ``2 (ring % 2)`` for x and the next word for y; by the paper's rule (r = 4), word ``ring % 4``. So a
thread that moves one vertex through the rings uses every word it draws. Smooth orbits take the word of vertex 0 of the
paper's rule for all vertices of a ring. The grey of a ring is word ``ring % 4`` of block ``ring // 4`` of the
LINE_COLOR stream.

The lines between vertices are in :mod:`gpurender.kernels.device.cpu_lines`.
"""

import numpy as np
import torch
from numba import float32, int32, int64, njit, uint32, uint64

from gpurender.kernels.device.cpu_lines import render_polygon
from gpurender.kernels.philox.cpu import philox4x32
from gpurender.kernels.visual_atom.tables import GRADIENTS
from gpurender.numerics.streams import Stream, halves
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

NOISE = np.uint32(Stream.NOISE)
LINE_COLOR = np.uint32(Stream.LINE_COLOR)

VERTEX_BITS = 12  # bits of a noise block that hold the vertex; the other bits hold the group of rings
PERIOD = 10_000  # range of the noise's abscissae
CELLS = 32  # cells of smooth noise on the circle: six vertices or more per cell of every atom of the paper (q >= 200)
TABLE = len(GRADIENTS)
WHITE = 255


@njit(inline="always")
def blend(first, second, t):
    """Return the noise at t of a cell, 0 <= t < 1: both ends' gradients, blended by 6 t^5 - 15 t^4 + 10 t^3."""
    left = first * t
    right = second * (t - float32(1))
    fade = t * t * t * (t * (t * float32(6) - float32(15)) + float32(10))
    return (left + fade * (right - left)) * float32(0.4)


@njit(inline="always")
def perlin(cell, t):
    """Return 1-D Perlin noise at cell + t, 0 <= t < 1."""
    return blend(GRADIENTS[cell & 255], GRADIENTS[(cell + 1) & 255], t)


@njit(inline="always")
def noise(word):
    """Return Perlin noise at the abscissa 10000 word / 2^32, whose fraction is cut to 24 bits."""
    abscissa = uint64(word) * uint64(PERIOD)  # 32 bits of fraction
    return perlin(int32(abscissa >> uint64(32)), float32(uint32(abscissa) >> uint32(8)) * float32(2.0**-24))


@njit(inline="always")
def smooth_noise(word, j, q):
    """Return the noise of vertex j of q on the circle of a word: 32 cells of the table, from a random one on.

    The abscissa is counted in q-th parts of a cell, in integers, so the circle closes exactly.
    """
    turn = CELLS * q
    place = int64(word) * int64(TABLE * turn) >> 32  # the first cell, and the abscissa of vertex 0
    first, along = place // turn, (place % turn + CELLS * j) % turn
    cell = along // q
    left, right = GRADIENTS[(first + cell) & 255], GRADIENTS[(first + (cell + 1) % CELLS) & 255]
    return blend(left, right, float32(along % q) / float32(q))


@kernel
def draw_words(group, number, key, count, words):
    """Draw the four noise words of the first vertices for one group of rings; words  # [4, q] uint32, q >= count."""
    for j in range(count):
        block = uint32(uint32(group << VERTEX_BITS) | uint32(j))
        words[0, j], words[1, j], words[2, j], words[3, j] = philox4x32(
            block, NOISE, number[0], number[1], key[0], key[1]
        )


@kernel
def ring_grey(ring, number, key, darkest, greys):
    """Draw the grey of a ring of an image, uniform over darkest, ..., darkest + greys - 1; above 255 it is white."""
    four = philox4x32(uint32(ring // 4), LINE_COLOR, number[0], number[1], key[0], key[1])
    return np.uint8(min(uint64(darkest) + (uint64(four[ring % 4]) * uint64(greys) >> uint64(32)), uint64(WHITE)))


@kernel
def add_waves(frequencies, amplitudes, sines, waves):
    """Set waves[j] = lambda1 sin(n1 t_j) + lambda2 sin(n2 t_j), float32 [q], with sines[i] = sin t_i."""
    q = waves.shape[0]
    for j in range(q):
        first, second = sines[(frequencies[0] * j) % q], sines[(frequencies[1] * j) % q]
        waves[j] = amplitudes[0] * first + amplitudes[1] * second


@kernel
def start_walk(axes, centre, cosines, sines, x, y):
    """Set x, y to the ellipse where the walk starts (the ellipse is not rendered); x, y  # [q] float32."""
    for j in range(x.shape[0]):
        x[j] = cosines[j] * axes[0] + centre[0]
        y[j] = sines[j] * axes[1] + centre[1]


@kernel
def walk_out(words_x, words_y, noise_level, growth, waves, cosines, sines, x, y):
    """Move the vertices to the next ring of the released rule, in place; growth = eta + w."""
    for j in range(x.shape[0]):
        outwards = growth + waves[j]
        x[j] += cosines[j] * (outwards - noise_level * noise(words_x[j]))
        y[j] += sines[j] * (outwards - noise_level * noise(words_y[j]))


@kernel
def place_orbit(words, smooth, noise_level, a, b, waves, centre, cosines, sines, x, y):
    """Place the vertices on a ring of the paper's rule; a, b are the axes of its orbit."""
    q = x.shape[0]
    for j in range(q):
        epsilon = smooth_noise(words[0], j, q) if smooth else noise(words[j])
        stretch = float32(1) + (waves[j] + noise_level * epsilon)
        x[j] = centre[0] + a * stretch * cosines[j]
        y[j] = centre[1] + b * stretch * sines[j]


@kernel
def render_batch(
    first, last, walk, smooth, rings, vertices, frequencies, axes, growth, amplitudes, noise_levels, offsets, cosines,
    sines, which, half_axes, centres, draw_ids, key, darkest, greys, ground, windows, canvases,
):  # fmt: skip
    """Render images first to last - 1 of a batch, of the atoms which[n]; greys: number of greys, from the darkest on.

    half_axes  # [N, 2] float32, of the images (axes: of the atoms, not read)
    windows  # [N, 4] int32: top, left, height, width; canvases  # [N, size, size] uint8, set inside the windows
    """
    group = 2 if walk else 4  # rings that share a Philox call
    for n in range(first, last):
        k, number, centre, half = which[n], draw_ids[n], centres[n], half_axes[n]
        q, eta = vertices[k], noise_levels[k]
        cos_t, sin_t = cosines[offsets[k] : offsets[k] + q], sines[offsets[k] : offsets[k] + q]
        x, y, waves = np.empty(q, np.float32), np.empty(q, np.float32), np.empty(q, np.float32)
        words, lines = np.empty((4, q), np.uint32), np.empty((9, q + 1), np.int32)
        top, left, height, width = windows[n, 0], windows[n, 1], windows[n, 2], windows[n, 3]
        canvases[n, top : top + height, left : left + width] = ground
        add_waves(frequencies[k], amplitudes[k], sin_t, waves)
        start_walk(half, centre, cos_t, sin_t, x, y)
        for ring in range(rings[k]):
            lane = ring % group
            if lane == 0:
                draw_words(ring // group, number, key, 1 if smooth else q, words)
            if walk:
                walk_out(words[2 * lane], words[2 * lane + 1], eta, eta + growth[k], waves, cos_t, sin_t, x, y)
            else:
                grown = growth[k] * float32(ring)
                a, b = half[0] + grown, half[1] + grown
                place_orbit(words[lane], smooth, eta, a, b, waves, centre, cos_t, sin_t, x, y)
            grey = ring_grey(ring, number, key, darkest, greys)
            render_polygon(x, y, grey, (top, left, height, width), canvases[n], lines)


def render_atoms(
    atoms, which, centres, draw_ids, greys, seed, size, walk, windows=None, smooth=False, ground=0, axes=None
):
    """Render images; uint8 [N, size, size]; arguments as in :func:`gpurender.kernels.visual_atom.render_atoms`."""
    canvases = host_memory.empty((len(which), size, size), np.uint8)
    own = [tensor.contiguous().numpy() for tensor in atoms.tensors()]
    places, middles = which.contiguous().numpy(), centres.contiguous().numpy()
    half_axes = (atoms.axes[which] if axes is None else axes).contiguous().numpy()
    words = np.ascontiguousarray(draw_ids.numpy()).view(np.uint32).reshape(-1, 2)  # low word first
    key, lightness = np.array(halves(seed), dtype=np.uint32), (greys[0], greys[1] - greys[0] + 1)
    parts = np.tile(np.array([0, 0, size, size], np.int32), (len(which), 1)) if windows is None else windows.numpy()

    def work(first, last):
        render_batch(
            first, last, walk, smooth, *own, places, half_axes, middles, words, key, *lightness, np.uint8(ground),
            parts, canvases,
        )  # fmt: skip

    parallel_ranges(len(which), work)
    return torch.from_numpy(canvases)
