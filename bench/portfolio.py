"""How much of the best recipe's gain does a portfolio have for a task that nobody has seen?

    python -m bench.portfolio STUDY --json bench/results/NAME.json    # -k 5, --held-out 1, --splits 200, --seed S
    python -m bench.portfolio bench/results/SEARCH_STUDY.json -k 3

A table of scores, tasks by recipes, is that of a study of ``gpurender search`` on its highest rung that has enough
recipes, or the accuracies on test images of the comparison of ``bench.search_study``, the mean over seeds. The tasks
are split at random into known and unseen ones (``--held-out`` of them). From the known ones a recommender chooses
recipes; its gain on an unseen task is the best score of its recipes over the mean of all recipes. The share is its mean
gain over that of the oracle, which knows the best recipe of each task:

    portfolio         the greedy K recipes; the client tries each
    best on average   one recipe
    random            K recipes, the mean over all choices

Intervals are bootstrap percentiles (5, 95) over tasks: splits of one table are not independent, tasks are.
"""

import argparse
import itertools
import json
import sys
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

import gpurender as gr
from bench import result_file
from gpurender.recipes.base import recipe as as_recipe
from gpurender.server.portfolio import greedy

RESAMPLES = 2000


def table_of(study: gr.search.Study, least: int) -> tuple[int, list[str], np.ndarray]:
    """Return rung, tasks and scores ``[T, C]`` of the highest rung with at least ``least`` recipes."""
    rows = [row for row in study.table() if row["score"] is not None]
    for rung in range(study.ladder.rungs - 1, -1, -1):
        best: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["rung"] == rung:
                best.setdefault(as_recipe(row["recipe"]).fingerprint, row)
        if len(best) >= least:
            tasks = list(study.tasks)
            return rung, tasks, np.array([[row["tasks"][t]["score"] for row in best.values()] for t in tasks])
    raise ValueError(f"the study has fewer than {least} recipes on each rung")


def compared(path: Path, least: int) -> tuple[list[str], np.ndarray]:
    """Return tasks and accuracies ``[T, C]`` of the recipes that a comparison has on all of its tasks."""
    rows = json.loads(path.read_text(encoding="utf-8"))["search_study"]["comparison"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    cells: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        cells.setdefault(row["rival"], {}).setdefault(row["task"], []).append(row["accuracy"])
    seeds = max(len(found) for own in cells.values() for found in own.values())
    whole = [own for own in cells.values() if sum(map(len, own.values())) == seeds * len(tasks)]
    if len(whole) < least:
        raise ValueError(f"{path} has {len(whole)} recipes that were measured on all tasks, and {least} are needed")
    return tasks, np.array([[np.mean(own[task]) for own in whole] for task in tasks])


def best_of_random(scores: np.ndarray, count: int) -> float:
    """Return the mean over all choices of ``count`` of the scores ``[C]`` of the best of them."""
    ordered = np.sort(scores)
    ways = np.array([comb(place, count - 1) for place in range(len(ordered))], np.float64)  # it is the best of these
    return float(ordered @ ways / ways.sum())


def gains(table: np.ndarray, known: list[int], unseen: list[int], count: int) -> dict[str, np.ndarray]:
    """Return the gain of each recommender on each unseen task, float64 ``[len(unseen)]`` by name."""
    chosen = greedy(table[known], count)
    average = int(table[known].mean(0).argmax())
    own = table[unseen]
    mean = own.mean(1)
    return {
        "oracle": own.max(1) - mean,
        "portfolio": own[:, chosen].max(1) - mean,
        "best on average": own[:, average] - mean,
        "random": np.array([best_of_random(row, count) for row in own]) - mean,
    }


def shares(table: np.ndarray, count: int, held_out: int, splits: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each recommender: ``share`` of the oracle's gain, with ``p5`` and ``p95``, and ``gain``.

    Args:
        table: scores, float64 ``[T, C]``.
        count: K.
        held_out: unseen tasks of a split, 1 to T - 1.
        splits: drawn at most; all of them if there are no more.
        seed: of the draws.
    """
    tasks = len(table)
    if not 1 <= held_out < tasks:
        raise ValueError(f"held_out must be 1 to {tasks - 1}, got {held_out}")
    generator = np.random.default_rng(seed)
    if comb(tasks, held_out) <= splits:
        drawn = [list(unseen) for unseen in itertools.combinations(range(tasks), held_out)]
    else:
        drawn = [sorted(generator.permutation(tasks)[:held_out].tolist()) for _ in range(splits)]
    sums: dict[str, np.ndarray] = {}
    counts = np.zeros(tasks)
    for unseen in drawn:
        counts[unseen] += 1
        for name, found in gains(table, [t for t in range(tasks) if t not in unseen], unseen, count).items():
            sums.setdefault(name, np.zeros(tasks))[unseen] += found
    used = counts > 0
    means = {name: total[used] / counts[used] for name, total in sums.items()}  # [T]: the mean gain on each task
    picks = generator.integers(0, used.sum(), (RESAMPLES, used.sum()))
    rows = []
    for name, own in means.items():
        resampled = own[picks].mean(1) / means["oracle"][picks].mean(1)
        rows.append({
            "recommender": name, "gain": float(own.mean()), "share": float(own.mean() / means["oracle"].mean()),
            "p5": float(np.percentile(resampled, 5)), "p95": float(np.percentile(resampled, 95)),
        })  # fmt: skip
    return rows


def main() -> int:
    """Print and write the shares; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study, or a result of bench.search_study")
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--held-out", type=int, default=1)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rung: int | None = None
    if options.study.is_file():
        tasks, table = compared(options.study, options.k + 1)
    else:
        rung, tasks, table = table_of(gr.search.Study(options.study), options.k + 1)
    rows = shares(table, options.k, options.held_out, options.splits, options.seed)
    for row in rows:
        print(f"{row['recommender']:>16}  {row['share']:.2f}  ({row['p5']:.2f} to {row['p95']:.2f})")
    if options.json is not None:
        command = " ".join(["python -m bench.portfolio", *sys.argv[1:]])
        result_file.write(
            options.json, command=command, k=options.k, rung=rung, tasks=tasks, recipes=table.shape[1], portfolio=rows
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
