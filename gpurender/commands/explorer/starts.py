"""Starts: what the page begins with where a family has no recipe of its own: a mixture, a schedule, a picture."""

from typing import Any

import numpy as np

from gpurender.recipes.pictures import text_of

SIDE = 64  # pixels: an outline needs no more


def _picture() -> str:
    """Return a picture with a few edges: a disc, a bar and a ring."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    levels = np.full((SIDE, SIDE), 40.0)
    levels[np.hypot(x + 10, y + 8) < 12] = 230.0
    levels[(np.abs(x - 14) < 5) & (np.abs(y) < 22)] = 150.0
    levels[np.abs(np.hypot(x + 8, y - 16) - 9) < 2] = 200.0
    return text_of("image", levels.astype(np.uint8), SIDE)


STARTS: dict[str, dict[str, Any]] = {
    "mixture": {
        "recipes": [
            {"family": "fractaldb", "image_size": 512},
            {"family": "visualatom", "instances": 100},
        ],
        "weights": [1, 1],
    },
    "schedule": {"recipe": {"family": "onepfrac"}, "knots": {"delta": [[0, 0.4], [1_000_000, 0.1]]}},
    "singleimage": {"image": _picture()},
}
