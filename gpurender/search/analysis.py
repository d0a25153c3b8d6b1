"""Analysis: what the results of a study say: which parameters matter, how well low rungs predict high ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpurender.search.space import Space
from gpurender.search.transferability import spearman

WEAK = 0.5  # rank correlation below which a rung says little about the next ones
FEWEST = 4  # configs of a correlation or a group: of fewer nothing is said
BINS = 4  # of a parameter that is a range
COLUMNS = ("ridge", "knn", "ridge_middle", "knn_middle", "logme", "h_score", "h_score_regularised", "leep", "transrate")

Row = Mapping[str, Any]  # of Study.table


def finished(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of configs that did not fail."""
    return [row for row in rows if row["score"] is not None]


def calibration(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return how well each rung's figures predict the score on the highest rung that enough configs have reached.

    A row has ``rung``, ``figure`` (``"score"``, or a measure of frozen features, its mean over tasks), ``top``,
    ``configs`` and ``spearman``, Spearman's rank correlation over the configs that both rungs have measured. These are
    the best of the lower rung, so the correlation over all configs would be higher.
    """
    scores = {(row["key"], row["rung"]): row for row in finished(rows)}
    rungs = sorted({rung for _, rung in scores})
    reached = [rung for rung in rungs if sum(r == rung for _, r in scores) >= FEWEST]
    found = []
    for rung in rungs:
        top = max(reached, default=0)
        keys = [key for key, r in scores if r == rung and (key, top) in scores]
        if rung >= top or len(keys) < FEWEST:
            continue
        truth = [scores[key, top]["score"] for key in keys]
        for figure in ("score", *COLUMNS):
            values = [_figure(scores[key, rung], figure) for key in keys]
            if None not in values:
                rho = spearman(np.array(values, np.float64), np.array(truth, np.float64))
                found.append({"rung": rung, "figure": figure, "top": top, "configs": len(keys), "spearman": rho})
    return found


def _figure(row: Row, name: str) -> float | None:
    """Return the score of a row, or the mean over tasks of a measure; ``None`` if a task does not have it."""
    if name == "score":
        return row["score"]
    values = [figures.get(name) for figures in row["tasks"].values()]
    return None if None in values or not values else float(np.mean(values))


def importances(rows: Sequence[Row], space: Space) -> list[tuple[str, float, int]]:
    """Return parameters, their share of the variance of the scores on rung 0, and of how many configs; largest first.

    The share is that between groups: the values of a choice, or the quarters of a range by rank (the correlation ratio;
    effects of two parameters together are not seen). It is corrected for the groups' number (omega squared), so a
    parameter without any effect has 0 on average.
    """
    rung0 = [row for row in finished(rows) if row["rung"] == 0]
    found = []
    for parameter in space.parameters:
        own = [row for row in rung0 if parameter.name in row["choices"]]
        values = [row["choices"][parameter.name] for row in own]
        scores = np.array([row["score"] for row in own], np.float64)
        if len(own) < 2 * FEWEST or len(set(values)) < 2 or np.ptp(scores) == 0.0:
            continue
        groups = np.unique(values if parameter.kind == "choice" else _quarters(values), return_inverse=True)[1]
        found.append((parameter.name, omega_squared(scores, groups), len(own)))
    return sorted(found, key=lambda row: -row[1])


def _quarters(values: Sequence[float]) -> np.ndarray:
    """Return to which quarter of the sorted values each belongs; equal values belong together."""
    order = np.sort(np.asarray(values, np.float64))
    return np.searchsorted(order, values) * BINS // len(order)


def omega_squared(scores: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of the variance that lies between groups: (S_b - (k - 1) M) / (S_t + M), at least 0.

    S_b and S_t are the sums of squares between groups and in all, M is the mean square within groups and k the number
    of groups (Hays, Statistics, 1963).

    Args:
        scores: float64 ``[N]``.
        groups: int64 ``[N]``, numbers from 0.
    """
    counts = np.bincount(groups)
    means = np.bincount(groups, scores) / np.maximum(counts, 1)
    total = float(((scores - scores.mean()) ** 2).sum())
    within = float(((scores - means[groups]) ** 2).sum())
    used = int((counts > 0).sum())
    if len(scores) <= used or total == 0.0:
        return 0.0
    noise = within / (len(scores) - used)
    return max(0.0, (total - within - (used - 1) * noise) / (total + noise))


def costs(rows: Sequence[Row]) -> dict[str, float]:
    """Return the seconds of training of each config on all rungs, by key."""
    found: dict[str, float] = {}
    for row in rows:
        found[row["key"]] = found.get(row["key"], 0.0) + row["seconds"].get("training", 0.0)
    return found


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points (cost, score) are not beaten: none has at most their cost and a better score; by cost."""
    best, found = float("-inf"), []
    for place in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[place][1] > best:
            best = points[place][1]
            found.append(place)
    return found
