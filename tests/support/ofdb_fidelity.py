"""OFDB's images against plain slow renderings of the released rules, written apart from the library.

``python -m tests.support.ofdb_fidelity 400`` prints the p values of 400 categories at the released sizes.

*Two samples*: Kolmogorov-Smirnov, ours of the even categories and theirs of the odd ones. *Pairs*: Wilcoxon's signed
ranks of the differences between the two images of one category, which would show a difference much smaller than
categories differ. With hundreds of categories the pairs show one, which is known: runs are 0.2 % longer than theirs,
because a released mask is never all zero, and of two pixels under one mask both are lit in 128 of 511 images; ours are
independent, 256 of 511 each.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

import gpurender as gr
from tests.support.released import pixels, sequential_game


@njit
def pasted(columns, rows, masks, size):
    """One opaque 3 x 3 patch of nine bits per point, in order, at (x + 1, y + 1), stored upside down."""
    image = np.zeros((size, size), np.bool_)
    for i in range(len(columns)):
        for dy in range(3):
            for dx in range(3):
                image[rows[i] + 1 + dy, columns[i] + 1 + dx] = (masks[i] >> (3 * dy + dx)) & 1
    return image[::-1]


def rendered(system, points, size, rng):
    """The image of a system by the released rules; bool [size, size], or None if its orbit leaves 1e15."""
    xs, ys = sequential_game(system[:, :6], np.cumsum(system[:, 6]), rng.random(points))
    if not max(np.abs(xs).max(), np.abs(ys).max()) < 1e15:  # False for NaN as well
        return None
    columns, rows = pixels(xs, ys, size)
    return pasted(columns.astype(np.int64), rows.astype(np.int64), rng.integers(1, 512, points), size)


def statistics(image):
    """Lit share, extents, mean length of the runs of lit pixels in rows, mean column and row."""
    ys, xs = np.nonzero(image)
    starts = image & ~np.pad(image, ((0, 0), (1, 0)))[:, :-1]
    return {
        "ink": image.mean(),
        "width": np.ptp(xs) + 1,
        "height": np.ptp(ys) + 1,
        "run": len(xs) / starts.sum(),
        "column": xs.mean(),
        "row": ys.mean(),
    }


def compare(shared: Path, variant, count, points=200_000, size=362, weight=None):
    """p values by statistic; ``weight``: what theirs multiply a by, by default as the variant says."""
    stats = pytest.importorskip("scipy.stats")
    recipe = gr.OFDB.from_csv(
        shared / "data" / "fractaldb-1k" / "categories", variant=variant, points=points, image_size=size, classes=count
    )
    renderer, rng = gr.Renderer(recipe), np.random.default_rng(count)
    weight = {"released": 0.2, "paper": 1.0}[variant] if weight is None else weight
    found = []
    for i, rows in enumerate(recipe.categories):
        system = np.array(rows)
        system[:, 0] *= weight
        theirs = rendered(system, points, size, rng)
        if theirs is not None:
            found.append((i, statistics(renderer(i)[0, 0].numpy() > 0), statistics(theirs)))
    results = {}
    for name in found[0][1]:
        ours, theirs = (np.array([pair[side][name] for pair in found]) for side in (1, 2))
        even = np.array([i % 2 == 0 for i, *_ in found])
        different = not np.array_equal(ours, theirs)
        results[name] = {
            "two samples": stats.ks_2samp(ours[even], theirs[~even]).pvalue,
            "pairs": stats.wilcoxon(ours - theirs).pvalue if different else 1.0,
            "ours": ours.mean(),
            "theirs": theirs.mean(),
            "images": len(found),
        }
    return results


if __name__ == "__main__":
    from tests.support import ROOT

    for variant in ("released", "paper"):
        for name, values in compare(ROOT.parent / "shared", variant, int(sys.argv[1])).items():
            print(variant, name, {key: float(f"{value:.4g}") for key, value in values.items()}, flush=True)
