"""RCDB against the released program's rules, written down once more: p values of two-sample tests of image features.

    python -m trials.contour_fidelity --images 400

Both draw categories and images of the released size, one image per category. Ours come from `rcdb-1k`, theirs one
Pillow line a segment in float64 (tests/support/released_lines.py). Ink, extent, greys, run lengths and centres are
compared by Kolmogorov and Smirnov's test.
"""

import argparse
import random

import numpy as np
from scipy import stats
from tqdm import tqdm

import gpurender as gr
from tests.support.released_lines import FEATURES, features, rcdb_category, rcdb_image

WHITE = 255


def compared(images: int, seed: int) -> dict[str, tuple[float, float, float]]:
    """Return the means of both and the p value by feature."""
    rng = random.Random(seed)
    program = (rcdb_image(rng, rcdb_category(rng)) for _ in range(images))
    theirs = np.array([features(image, WHITE) for image in tqdm(program, total=images, desc="released rules")])
    renderer = gr.Renderer(gr.recipe("rcdb-1k", classes=max(images, 1000), seed=seed))
    samples = [1000 * n + n % 1000 for n in range(images)]
    ours = np.array([features(renderer(n)[0, 0].numpy(), WHITE) for n in samples])
    found = {}
    for name, mine, other in zip(FEATURES, ours.T, theirs.T, strict=True):
        mine, other = mine[np.isfinite(mine)], other[np.isfinite(other)]
        found[name] = float(mine.mean()), float(other.mean()), float(stats.ks_2samp(mine, other).pvalue)
    return found


def main() -> None:
    """Print a line for each feature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, (mine, other, p) in compared(arguments.images, arguments.seed).items():
        print(f"{name:22} {mine:10.4f} {other:10.4f}   p = {p:.3f}")


if __name__ == "__main__":
    main()
