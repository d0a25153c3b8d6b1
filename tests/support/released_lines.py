"""RCDB's released rules written down once more: sequential, in float64, one Pillow line a segment."""

import math
import random

import numpy as np
from PIL import Image, ImageDraw

# Recorded from the package `noise`: 1 + the gradients at 0 to 255, which are the slopes of pnoise1 there, times 2.5
PACKAGE_GRADIENTS = (
    "9200005000274093069070057270908690002070000075020330070906000060"
    "0798020804095070057800009070680830033020306020400694600866080052"
    "6040007085800476000502038000090790040058007090003890540003204020"
    "0836044304200543353000003280790006025040068000000450005025049006"
)
GRADIENTS = np.array([int(digit) - 1 for digit in PACKAGE_GRADIENTS], float)


def pnoise1(x):
    """Perlin noise of the package at numbers; float64, any shape."""
    cell = np.floor(x).astype(int)
    t = x - cell
    left, right = GRADIENTS[cell % 256] * t, GRADIENTS[(cell + 1) % 256] * (t - 1)
    return 0.4 * (left + t**3 * (t * (6 * t - 15) + 10) * (right - left))


def rcdb_category(rng: random.Random):
    """Vertices, polygons, noise coefficient and step of a category, as the program draws them."""
    while True:
        vertices = int(rng.expovariate(1 / 100))
        if 2 < vertices <= 200:
            break
    return vertices, rng.randint(1, 200), rng.uniform(0, 4), rng.uniform(0, 0.1)


def rcdb_image(rng: random.Random, category, size=512, radius=100, spread=400, lightest=256):
    """One image of a category, with a size and a place of its own; uint8 [size, size]."""
    vertices, polygons, noise, step = category
    start, across, down = rng.randint(0, radius), rng.uniform(1, 2), rng.uniform(1, 2)
    place_y, place_x = ((size + rng.randint(-spread, spread)) / 2 for _ in range(2))
    t = math.pi * 2 / vertices * np.arange(vertices)
    x, y = np.cos(t) * start * across, np.sin(t) * start * down
    image = Image.new("RGB", (size, size), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for _ in range(polygons):
        grey = rng.randint(0, lightest)
        nx, ny = (
            pnoise1(np.array([rng.uniform(0, 10_000) for _ in t])) * noise * 2 - noise for _ in range(2)
        )  # fmt: skip
        x, y = x - np.cos(t) * (nx - step), y - np.sin(t) * (ny - step)
        corners = [*zip(x + place_x, y + place_y, strict=True)]
        for first, second in zip(corners, [*corners[1:], corners[0]], strict=True):
            draw.line((*first, *second), fill=(grey, grey, grey), width=1)
    return np.asarray(image)[:, :, 0]


FEATURES = (
    "ink", "width", "height", "mean grey", "deviation of the greys", "run along rows", "run along columns",
    "centre x", "centre y", "greys",
)  # fmt: skip


def features(image, ground):
    """Numbers that describe an image of lines on a ground, in the order of FEATURES; NaN for what an empty image has
    not.
    """
    ink = image != ground
    if not ink.any():
        return [0.0] * 3 + [math.nan] * 6 + [0]
    y, x = np.nonzero(ink)
    runs = [ink.sum() / np.count_nonzero(np.diff(np.pad(ink, 1).astype(np.int8), axis=axis) == 1) for axis in (1, 0)]
    greys = image[ink].astype(float)
    return [
        ink.mean(), np.ptp(x), np.ptp(y), greys.mean(), greys.std(), *runs, x.mean(), y.mean(), len(np.unique(greys))
    ]  # fmt: skip
