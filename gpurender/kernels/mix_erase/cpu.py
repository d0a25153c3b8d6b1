"""Mixing, look-up and erasing in Numba.

Formula (image n, its partner p = N - 1 - n, byte b, channel c, pixel (y, x), table lut)::

    b   = b_p inside the patch of a cut image, b_n outside the patch
    b   = rint(float32(weight) b_n + float32(1 - weight) b_p) in any other image
    out = lut[c][b]
    out = the noise of the last box that covers (y, x), if any does

The noise is 0 (const) or a standard normal variate of one word of Philox, keyed by the image::

    rand    word c of block k:          counter (k, ERASED, 1, 0), k the number of the box
    pixel   word e mod 4 of block e/4:  counter (e div 4, ERASED, 0, 0), e = (c H + y) W + x

so that a pixel's noise does not depend on the box. A word becomes a variate by look-up, as in
:mod:`gpurender.numerics.quantiles`, in float32: its highest bit is the sign, and::

    q = float32((word mod 2^31) + 1) 2^-32 = P(Z > z),   z = T[k] + (T[k + 1] - T[k]) f

where k, the cell, and f, the place in it, are the high and the low 16 bits of that float32.

A mixed byte is rounded by adding 2^23, where the spacing of float32 is 1: the low bits of the sum are the byte.
"""

import numpy as np
import torch
from numba import float32, int32, njit, uint8, uint32

from gpurender.kernels.mix_erase import tables
from gpurender.kernels.mix_erase.params import ERASING_MODES, Erasing, Mixing
from gpurender.kernels.philox.cpu import philox4x32
from gpurender.numerics.streams import Stream
from gpurender.runtime import host_memory
from gpurender.runtime.image_formats import INTEGERS
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

ERASED = np.uint32(Stream.ERASED)
ROUND = np.float32(2.0**23)
FRACTION = np.float32(2.0**-16)
MAGNITUDE = np.uint32(0x7FFFFFFF)
LARGEST = np.uint32(0x7FFFFFFE)  # LARGEST + 1 is still float32(2^31 - 1) = 2^31, and fits an int32
FIRST_CELL = 127 * 128  # the high 16 bits of 1.0
PIXEL = ERASING_MODES.index("pixel")
RAND = ERASING_MODES.index("rand")

# Fields of a float32 and of a float16
SMALLEST = np.int32((127 - 14) << 23)  # the bits of 2^-14, the smallest normal float16
REBIAS = np.int32((127 - 15) << 23)
HALF, HALF_BITS = np.float32(0.5), np.int32(126 << 23)  # above 1/2, float32 has the spacing of subnormal float16


@njit(inline="always")
def mix(own, partner, weight, mixed):
    """Mix two channels of bytes into ``mixed``, each product and the sum rounded to float32."""
    share, rest = float32(weight), float32(1.0 - weight)
    for y in range(mixed.shape[0]):
        for x in range(mixed.shape[1]):
            total = float32(share * float32(own[y, x])) + float32(rest * float32(partner[y, x]))
            mixed[y, x] = uint8(int32(total + ROUND))


@njit(inline="always")
def copy(source, target):
    """Copy source to target, two arrays of bytes of equal shape, faster than one assignment does."""
    for y in range(target.shape[0]):
        for x in range(target.shape[1]):
            target[y, x] = source[y, x]


@kernel
def mix_and_look_up(images, lut, weights, cut, patches, start, stop, out):
    """Set out[n, c] to lut[c][images[n, c] mixed with its partner], for n from start to stop.

    images uint8 [N, 1 or 3, H, W], lut [3, 256], out [N, 3, H, W] of integers, with any strides.
    """
    n_images, channels, height, width = images.shape
    mixed = np.empty((height, width), np.uint8)
    for n in range(start, stop):
        band = mixed
        for c in range(3):
            if c < channels:  # a single channel serves all three
                band, partner = images[n, c], images[n_images - 1 - n, c]
                if cut[n]:
                    top, left, h, w = patches[n, 0], patches[n, 1], patches[n, 2], patches[n, 3]
                    copy(band, mixed)
                    copy(partner[top : top + h, left : left + w], mixed[top : top + h, left : left + w])
                    band = mixed
                elif weights[n] != 1.0:
                    mix(band, partner, weights[n], mixed)
                    band = mixed
            table = lut[c]
            for y in range(height):
                source, target = band[y], out[n, c, y]
                for x in range(width):
                    target[x] = table[source[x]]


@kernel
def normals(words, table, noise):
    """Set noise[i] to the standard normal variate of words[i], float32; ``words`` may be longer than ``noise``."""
    tail = np.empty(noise.shape[0], np.float32)
    for i in range(noise.shape[0]):
        tail[i] = float32(int32(min(words[i] & MAGNITUDE, LARGEST)) + int32(1))
    bits = tail.view(np.int32)
    for i in range(noise.shape[0]):
        cell = (bits[i] >> 16) - FIRST_CELL
        size = table[cell] + float32((table[cell + 1] - table[cell]) * float32(float32(bits[i] & 0xFFFF) * FRACTION))
        noise[i] = -size if words[i] > MAGNITUDE else size


@kernel
def draw_blocks(first, count, place, low, high, words):
    """Set words[4 i + j] to word j of block first + i, for i below count; place: third word of the counter."""
    for i in range(count):
        w0, w1, w2, w3 = philox4x32(uint32(first + i), ERASED, uint32(place), uint32(0), low, high)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = w0, w1, w2, w3


@kernel
def store(noise, brain, target):
    """Set target to the bits of noise, float32, in the floating dtype of target's size, rounded to nearest, to even.

    brain: the dtype of 16 bits is bfloat16, otherwise float16.
    """
    bits, count = noise.view(np.int32), noise.shape[0]
    if target.itemsize == 8:
        exact = np.empty(count, np.float64)
        for x in range(count):
            exact[x] = noise[x]
        wide = exact.view(np.int64)
        for x in range(count):
            target[x] = wide[x]
    elif target.itemsize == 4:
        for x in range(count):
            target[x] = bits[x]
    elif brain:
        for x in range(count):
            target[x] = (bits[x] + int32(0x7FFF) + (bits[x] >> 16 & 1)) >> 16
    else:
        raised = np.empty(count, np.float32)
        for x in range(count):
            raised[x] = float32(abs(noise[x])) + HALF
        subnormal = raised.view(np.int32)
        for x in range(count):
            size = bits[x] & int32(MAGNITUDE)
            rounded = (size - REBIAS + int32(0xFFF) + (size >> 13 & 1)) >> 13
            target[x] = (rounded if size >= SMALLEST else subnormal[x] - HALF_BITS) | (bits[x] >> 16 & 0x8000)


@kernel
def erase(boxes, keys, mode, brain, table, start, stop, out):
    """Fill boxes int32 [N, K, 4] of out [N, 3, H, W], for n from start to stop; keys uint32 [N, 2], low and high."""
    _, channels, height, width = out.shape
    words, noise = np.empty(width + 6, np.uint32), np.zeros(width, np.float32)
    for n in range(start, stop):
        low, high = keys[n, 0], keys[n, 1]
        for k in range(boxes.shape[1]):
            top, left, h, w = boxes[n, k, 0], boxes[n, k, 1], boxes[n, k, 2], boxes[n, k, 3]
            for c in range(channels if w > 0 else 0):
                if mode == RAND:
                    draw_blocks(k, 1, 1, low, high, words)
                    normals(words[c:], table, noise[:1])
                    for x in range(w):
                        noise[x] = noise[0]
                for y in range(top, top + h):
                    if mode == PIXEL:
                        element = (c * height + y) * width + left
                        draw_blocks(element // 4, (element % 4 + w + 3) // 4, 0, low, high, words)
                        normals(words[element % 4 :], table, noise[:w])
                    store(noise[:w], brain, out[n, c, y, left : left + w])


def mix_erase(
    images: torch.Tensor,
    lut: torch.Tensor,
    mixing: Mixing | None,
    erasing: Erasing | None,
    memory_format: torch.memory_format,
) -> torch.Tensor:
    """Do ``gpurender.kernels.mix_erase.mix_erase`` on the CPU; the arguments are checked."""
    n, _, height, width = images.shape
    if n * height * width == 0:
        shape = (n, 3, height, width)
        return torch.empty(shape, dtype=lut.dtype, device="cpu", memory_format=memory_format)
    entries = np.repeat(lut.view(INTEGERS[lut.element_size()]).numpy(), 3 // len(lut), axis=0)
    if memory_format == torch.channels_last:
        out = host_memory.empty((n, height, width, 3), entries.dtype).transpose(0, 3, 1, 2)
    else:
        out = host_memory.empty((n, 3, height, width), entries.dtype)
    if mixing is None:
        mixing = Mixing(
            torch.ones(n, dtype=torch.float64, device="cpu"),
            torch.zeros(n, dtype=torch.bool, device="cpu"),
            torch.zeros(n, 4, dtype=torch.int32, device="cpu"),
        )
    weights, cut, patches = (given.numpy() for given in mixing)

    def work(start: int, stop: int) -> None:
        mix_and_look_up(images.numpy(), entries, weights, cut, patches, start, stop, out)
        if erasing is not None:
            keys = erasing.keys.numpy().view(np.uint32).reshape(-1, 2)
            mode, table = ERASING_MODES.index(erasing.mode), tables.normal(images.device).numpy()
            erase(erasing.boxes.numpy(), keys, mode, lut.dtype == torch.bfloat16, table, start, stop, out)

    parallel_ranges(n, work)
    return torch.from_numpy(out).view(lut.dtype)
