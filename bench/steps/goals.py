"""What is to be reached on one H100 or H200, and what a chip could do at best.

*Drawn* means that every point or line is computed for every image, *kept* that what repeats lay in the GPU's memory:
each has goals of its own. A raster of other points or another canvas than the goal names is not judged by it.
"""

from typing import Any

POINTS, CANVAS = 100_000, 512
DRAWN = {"onepfrac": 2e6, "fractaldb": 2e6, "visualatom": 1e6}  # images/s of a raster
KEPT_CROP = 2.5e6  # of a loader with a random resized crop
DEIT = {"onepfrac": 1e6, "fractaldb": 1e6, "visualatom": 6e5}  # of a loader with all of DeiT
STEP = {  # percent that a loader may cost a step of training
    ("vit_tiny_patch16_224", "onepfrac"): 1.0, ("vit_tiny_patch16_224", "fractaldb"): 1.0,
    ("vit_tiny_patch16_224", "visualatom"): 2.0, ("vit_small_patch16_224", "onepfrac"): 1.0,
    ("vit_small_patch16_224", "fractaldb"): 1.0, ("vit_small_patch16_224", "visualatom"): 1.0,
}  # fmt: skip
SEARCH = {1000: 0.2, 21_000: 5.0}  # seconds, by classes
START = {"cold": 60.0, "warm": 5.0}  # seconds from the start of a process to its first batch

# Estimates: images/s of 100,000 points in two passes, and bytes/s of a chip's memory.
CHIPS = {
    "H200": (5.7e6, 4.8e12), "H100": (5.7e6, 3.35e12), "A100": (3.3e6, 2.04e12), "L4": (1.0e6, 0.30e12),
    "RTX 4090": (3.3e6, 1.0e12),
}  # fmt: skip


def family(row: dict[str, Any]) -> str:
    """The family of a row's preset."""
    return row["recipe"].split("-")[0]


def goal_of(row: dict[str, Any]) -> float | None:
    """The images/s that a row of a table should reach; ``None`` for one that no goal is about.

    The stage ``augment`` has none: its launches come one by one from the host, which no loader waits for.
    """
    if row["stage"] == "raster":
        as_stated = row["image_size"] == CANVAS and row.get("points") in (None, POINTS)
        return DRAWN[family(row)] if as_stated and not row.get("cached") else None
    if row["stage"] != "loader":
        return None
    if row["augment"] == "deit":
        return DEIT[family(row)]
    return KEPT_CROP if row["augment"] == "crop" and row.get("cached") else None


def limit_of(row: dict[str, Any], gpu: str) -> float | None:
    """Images/s that a chip could do at best: of two passes over the points where these are drawn, else of writing what
    is written. ``None`` for a chip without an estimate.
    """
    chip = next((limits for name, limits in CHIPS.items() if name in gpu), None)
    if chip is None:
        return None
    points, bandwidth = chip
    if row["stage"] == "raster":
        drawn = row.get("points") is not None and not row.get("cached")
        return points * POINTS / row["points"] if drawn else bandwidth / row["image_size"] ** 2
    return bandwidth / (2 * 3 * row["image_size"] ** 2)  # float16


def judged(row: dict[str, Any], gpu: str) -> dict[str, Any]:
    """A row of a table beside its goal and its limit."""
    rate, goal, limit = row["images_per_second"]["median"], goal_of(row), limit_of(row, gpu)
    row = row | {"percent_of_goal": percent(rate, goal), "limit": limit, "percent_of_limit": percent(rate, limit)}
    return row if goal is None else row | {"goal": goal, "verdict": "met" if rate >= goal else "missed"}


def judged_step(row: dict[str, Any]) -> dict[str, Any]:
    """A row of training beside its goal: met or missed only if the whole confidence interval says so."""
    goal = STEP.get((row["model"], family(row)))
    if goal is None:
        return row
    low, high = row["overhead_interval_percent"]
    verdict = "met" if high <= goal else "missed" if low > goal else "within noise of the goal"
    return row | {"goal_percent": goal, "verdict": verdict}


def judged_seconds(seconds: float, goal: float | None) -> dict[str, Any]:
    """A duration beside its goal."""
    verdict = {} if goal is None else {"goal_seconds": goal, "verdict": "met" if seconds <= goal else "missed"}
    return {"seconds": round(seconds, 3)} | verdict


def percent(value: float, of: float | None) -> float | None:
    """How much of something, to a tenth."""
    return None if of is None else round(100.0 * value / of, 1)
