"""How much faster than a plain renderer: the images of ``onepfrac-1k`` drawn as people draw them, and by gpurender.

    python -m bench.plain_renderer [--seconds T] [--json FILE]

The plain renderer is what one writes in Numba in an afternoon: one walker, float64 points kept in an array, their
extent, then a count per pixel. It iterates the maps of the same catalogue, with as many points on as large a canvas. It
draws no patches and no masks. *drawn* computes every image, as the plain renderer does; *kept* reads the bits of images
that were rendered before from RAM, 200 of them again and again, so its ratio is that of a later epoch. All run on one
thread and in turn; a figure is the median over rounds, beside it the lowest and the highest.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit

import gpurender as gr
from bench import result_file

BATCH = 50  # images of one measurement
ROUNDS = 9


@njit
def plain(maps, limits, points, size, seed, counts):
    """Set counts (int32 [size, size]) to the points of a chaos game per pixel.

    maps float64 [M, 6] (a, b, c, d, e, f), limits float64 [M]: cumulative probabilities.
    """
    np.random.seed(seed)
    at = np.empty((points, 2), np.float64)
    x = y = 0.0
    for i in range(points):
        k, u = 0, np.random.random()
        while k < len(limits) - 1 and u >= limits[k]:
            k += 1
        a, b, c, d, e, f = maps[k]
        x, y = a * x + b * y + e, c * x + d * y + f
        at[i] = x, y
    left, top = at[:, 0].min(), at[:, 1].min()
    extent = max(at[:, 0].max() - left, at[:, 1].max() - top)
    for i in range(points):
        counts[int((at[i, 1] - top) / extent * (size - 1)), int((at[i, 0] - left) / extent * (size - 1))] += 1


def plain_images(recipe: gr.OnePFrac, systems: Any, which: torch.Tensor) -> None:
    """Render images of systems by the plain renderer."""
    for i in which.tolist():
        used = int(systems.counts[i])
        maps = systems.maps[i, :used].numpy().astype(np.float64)
        limits = systems.thresholds[i, :used].numpy() / 65536.0
        counts = np.zeros((recipe.image_size, recipe.image_size), np.int32)
        plain(maps, limits, recipe.points, recipe.image_size, i, counts)


def rates(seconds: float) -> dict[str, list[float]]:
    """Return images per second of each renderer, one figure per round."""
    recipe = gr.OnePFrac()
    drawn, kept = gr.Renderer(recipe, "cpu", cache_bytes=0), gr.Renderer(recipe, "cpu")
    jobs: dict[str, Callable[[torch.Tensor], Any]] = {
        "drawn": lambda which: drawn(which),
        "kept": lambda which: kept(which),
        "plain": lambda which: plain_images(recipe, drawn.catalog.systems, which),  # after "drawn", which finds them
    }
    batches = torch.arange(len(recipe), dtype=torch.int64, device="cpu").split(BATCH)[:4]
    for job in jobs.values():  # compiled, and kept
        for which in batches:
            job(which)
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            done, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < seconds / ROUNDS:
                job(batches[done % len(batches)])
                done += 1
            found[name].append(done * BATCH / (time.perf_counter() - begun))
    return found


def main() -> int:
    """Print the rates; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each renderer (default 6)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = rates(options.seconds)
    base = statistics.median(found["plain"])
    for name, some in found.items():
        middle = statistics.median(some)
        spread = f"{min(some):,.0f} to {max(some):,.0f}"
        print(f"{name:<6}{middle:>9,.0f} images/s ({spread}), {middle / base:,.1f} times plain")
    if options.json:
        result_file.write(options.json, plain_renderer={"preset": "onepfrac-1k", "images_per_second": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
