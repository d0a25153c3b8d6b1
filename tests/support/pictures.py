"""Folders of small real-looking images for the tests of training."""

from pathlib import Path

import numpy as np
from PIL import Image


def image_folder(root: Path, classes: int = 3, train: int = 6, val: int = 4, side: int = 24) -> Path:
    """Write ``train/cN/*.png`` and ``val/cN/*.png``: noise, class N brighter in channel N; return the folder."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / part / f"c{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 90, (side, side, 3)).astype(np.uint8)
                pixels[..., label % 3] += np.uint8(120)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root
