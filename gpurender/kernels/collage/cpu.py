"""Collages in Numba: the reference that every other implementation equals byte for byte.

Formulas, all in integers. An object of H x H pixels is resized to side x side: along
each axis, pixel d is made of the pixels i and i + 1 of the object with the weights 2048 - w and w::

    p = max(0, (2 d + 1) H - side),  i = p div (2 side),  w = 2048 (p mod 2 side) / (2 side), rounded, halves to even

and i = H - 1, w = 0 where i would be H - 1 or more. With the sums a and b of two rows, weighted along x::

    byte = ((((2048 - w) (a div 16)) div 2^16) + ((w (b div 16)) div 2^16) + 2) div 4

The blur of a byte is (sum of weight weight' byte + 2^15) div 2^16 over its neighbours, with the weights (w, 256 - 2 w,
w) along each axis; beyond the edge the canvas is mirrored about its outermost pixels.
"""

import numpy as np
import torch
from numba import float32, int32, njit, uint8, uint32

from gpurender.kernels.collage.params import WEIGHT, Objects
from gpurender.kernels.device.cpu_hsv import rgb
from gpurender.runtime import host_memory
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges


@kernel
def palette_of(saturation, value, unit, palette):
    """Fill palette (uint8 [3, 256]) with the colours of all hues."""
    for hue in range(256):
        palette[0, hue], palette[1, hue], palette[2, hue] = rgb(int32(hue), saturation, value, unit)


@kernel
def tint(density, orientation, hue, palette, tinted):
    """Colour and turn an object. density  # [H, H] float32; tinted  # [3, H, H] uint8"""
    last = density.shape[0] - 1
    codes = np.empty(density.shape[0], np.int32)  # of a row: the hue, or -1
    for y in range(last + 1):
        for x in range(last + 1):
            row, column = (x, y) if orientation & 4 else (y, x)
            row = last - row if orientation & 1 else row
            column = last - column if orientation & 2 else column
            d = density[row, column]
            codes[x] = (int32(float32(float32(d * float32(255)) + hue)) & int32(255)) if d > 0 else int32(-1)
        for c in range(3):
            colours, line = palette[c], tinted[c, y]
            for x in range(last + 1):
                line[x] = colours[codes[x]] if codes[x] >= 0 else uint8(0)


@njit(inline="always")
def tap(d, height, side):
    """Return the pixels that pixel d of a resized axis is made of, and the weight of the second, in 1 / WEIGHT."""
    place = max(int32(0), int32((2 * d + 1) * height - side))
    i, rest = place // (2 * side), WEIGHT * (place % (2 * side))
    if i >= height - 1:
        return height - 1, height - 1, int32(0)
    weight, beyond = rest // (2 * side), rest % (2 * side)
    return i, i + 1, int32(weight + (beyond > side or (beyond == side and weight & 1)))


@kernel
def resize(source, target):
    """Resize an object. source  # [3, H, H] uint8; target  # [3, side, side] uint8"""
    height, side = source.shape[1], target.shape[1]
    first, second, weights = np.empty(side, np.int32), np.empty(side, np.int32), np.empty(side, np.int32)
    for d in range(side):
        first[d], second[d], weights[d] = tap(d, height, side)
    for c in range(3):
        for y in range(side):
            above, below, line = source[c, first[y]], source[c, second[y]], target[c, y]
            w = weights[y]
            for x in range(side):
                a, b, u = first[x], second[x], weights[x]
                upper = int32(above[a]) * (WEIGHT - u) + int32(above[b]) * u
                lower = int32(below[a]) * (WEIGHT - u) + int32(below[b]) * u
                line[x] = uint8((((WEIGHT - w) * (upper >> 4) >> 16) + (w * (lower >> 4) >> 16) + 2) >> 2)


@kernel
def paste(pixels, top, left, image):
    """Cover an image (uint8 [3, S, S]) with the pixels (uint8 [3, side, side]) that are not black."""
    size, side = image.shape[1], pixels.shape[1]
    x0, x1 = max(0, -left), min(side, size - left)
    for y in range(max(0, -top), min(side, size - top)):
        red, green, blue = pixels[0, y], pixels[1, y], pixels[2, y]
        to_red, to_green, to_blue = image[0, top + y], image[1, top + y], image[2, top + y]
        for x in range(x0, x1):
            lit = (red[x] | green[x] | blue[x]) != 0
            to_red[left + x] = red[x] if lit else to_red[left + x]
            to_green[left + x] = green[x] if lit else to_green[left + x]
            to_blue[left + x] = blue[x] if lit else to_blue[left + x]


@kernel
def blur(image, weight):
    """Blur an image (uint8 [3, S, S]) in place."""
    size = image.shape[1]
    side, centre = uint32(weight), uint32(256 - 2 * weight)
    sums = np.empty((size, size), np.uint32)
    for c in range(3):
        band = image[c]
        for y in range(size):
            line, total = band[y], sums[y]
            total[0] = uint32(centre * uint32(line[0])) + uint32(uint32(2) * side * uint32(line[1]))
            for x in range(1, size - 1):
                ends = uint32(uint32(line[x - 1]) + uint32(line[x + 1]))
                total[x] = uint32(centre * uint32(line[x])) + uint32(side * ends)
            total[size - 1] = uint32(centre * uint32(line[size - 1])) + uint32(
                uint32(2) * side * uint32(line[size - 2])
            )
        for y in range(size):
            above, here, below = sums[y - 1 if y else 1], sums[y], sums[y + 1 if y < size - 1 else size - 2]
            target = band[y]
            for x in range(size):
                total_x = uint32(centre * here[x]) + uint32(side * uint32(above[x] + below[x]))
                target[x] = uint8(uint32(total_x + uint32(1 << 15)) >> uint32(16))


def collages(objects: Objects, backgrounds: torch.Tensor, blurs: torch.Tensor, hue_unit: float) -> torch.Tensor:
    """Paste objects; uint8 [N, 3, S, S]; arguments as in :func:`gpurender.kernels.collage.collages`."""
    images = host_memory.empty(backgrounds.shape, np.dtype(np.uint8))
    each, height, unit = len(objects) // max(len(images), 1), objects.densities.shape[1], np.float32(hue_unit)
    grounds, weights, densities = backgrounds.numpy(), blurs.numpy(), objects.densities.numpy()
    orientations, colours, places = (
        tensor.numpy() for tensor in (objects.orientations, objects.colours, objects.places)
    )

    def work(first: int, last: int) -> None:
        palette, tinted = np.empty((3, 256), np.uint8), np.empty((3, height, height), np.uint8)
        for n in range(first, last):
            images[n] = grounds[n]
            for k in range(n * each, (n + 1) * each):
                top, left, side = places[k].tolist()
                if side == 0:
                    continue
                hue, saturation, value = colours[k]
                palette_of(saturation, value, unit, palette)
                tint(densities[k], int(orientations[k]), hue, palette, tinted)
                pixels = tinted
                if side != height:  # else the weights are 0
                    pixels = np.empty((3, side, side), np.uint8)
                    resize(tinted, pixels)
                paste(pixels, top, left, images[n])
            if weights[n]:
                blur(images[n], int(weights[n]))

    parallel_ranges(len(images), work)
    return torch.from_numpy(images)
