"""How much of the best recipe's gain does a portfolio have for a task that nobody has seen?

    python -m bench.portfolio STUDY --json bench/results/NAME.json    # -k 5, --held-out 1, --splits 200, --seed S
    python -m bench.portfolio bench/results/SEARCH_STUDY.json -k 3

A table of scores, tasks by recipes, is that of a study of ``gpurender search`` on its highest rung that has enough
recipes, or the accuracies on test images of the comparison of ``bench.search_study``, the mean over seeds. The tasks
are split at random into known and unseen ones: all tasks of ``--held-out`` sources of images are unseen. From the known
ones a recommender chooses recipes; its gain on an unseen task is the best score of its recipes over the mean of all
recipes. The share is its mean gain over that of the oracle, which knows the best recipe of each task:

    portfolio         the greedy K recipes; the client tries each
    best on average   one recipe
    random            K recipes, the mean over all choices

Sources count alike, however many tasks they have. Intervals are bootstrap percentiles (5, 95) over sources: splits of
one table are not independent of each other, nor are tasks of one source.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
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


def compared(path: Path, least: int) -> tuple[list[str], list[str], np.ndarray]:
    """Return tasks, their sources and accuracies ``[T, C]`` of the recipes that a comparison has on all of its tasks.

    The recipe that its study has found is left out: known and unseen tasks have chosen it.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))["search_study"]["comparison"]
    sources = {row["task"]: row["source"] for row in rows}
    chosen = {row["fingerprint"] for row in rows if row["rival"] == "found"}
    cells: dict[str, dict[tuple[str, int], float]] = {}
    for row in rows:
        if row["fingerprint"] not in chosen:
            cells.setdefault(row["fingerprint"], {})[row["task"], row["seed"]] = row["accuracy"]
    most = max(map(len, cells.values()), default=0)
    whole = [own for own in cells.values() if len(own) == most]
    if len(whole) < least:
        raise ValueError(f"{path} has {len(whole)} recipes that were measured on all tasks, and {least} are needed")
    table = [[np.mean([own[cell] for cell in own if cell[0] == task]) for own in whole] for task in sources]
    return list(sources), list(sources.values()), np.array(table)


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


def shares(
    table: np.ndarray, sources: Sequence[str], count: int, held_out: int, splits: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each recommender: ``share`` of the oracle's gain, with ``p5`` and ``p95``, and ``gain``.

    Args:
        table: scores, float64 ``[T, C]``.
        sources: of the tasks, ``[T]``.
        count: K.
        held_out: sources whose tasks are unseen in a split, 1 to all but one.
        splits: drawn at most; all of them if there are no more.
        seed: of the draws.
    """
    kinds = list(dict.fromkeys(sources))
    if not 1 <= held_out < len(kinds):
        raise ValueError(f"held_out must be 1 to {len(kinds) - 1}, got {held_out}")
    generator = np.random.default_rng(seed)
    if comb(len(kinds), held_out) <= splits:
        drawn = list(itertools.combinations(kinds, held_out))
    else:
        drawn = [tuple(kinds[i] for i in generator.permutation(len(kinds))[:held_out]) for _ in range(splits)]
    found: dict[str, dict[str, list[float]]] = {}  # gains by recommender and source
    for away in drawn:
        unseen = [t for t, source in enumerate(sources) if source in away]
        known = [t for t, source in enumerate(sources) if source not in away]
        for name, some in gains(table, known, unseen, count).items():
            for t, gain in zip(unseen, some, strict=True):
                found.setdefault(name, {}).setdefault(sources[t], []).append(gain)
    used = [kind for kind in kinds if kind in found["oracle"]]
    means = {name: np.array([np.mean(of[kind]) for kind in used]) for name, of in found.items()}  # [S] each
    picks = generator.integers(0, len(used), (RESAMPLES, len(used)))
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
        tasks, sources, table = compared(options.study, options.k + 1)
    else:
        rung, tasks, table = table_of(gr.search.Study(options.study), options.k + 1)
        sources = tasks
    rows = shares(table, sources, options.k, options.held_out, options.splits, options.seed)
    for row in rows:
        print(f"{row['recommender']:>16}  {row['share']:.2f}  ({row['p5']:.2f} to {row['p95']:.2f})")
    if options.json is not None:
        command = " ".join(["python -m bench.portfolio", *sys.argv[1:]])
        result_file.write(
            options.json,
            command=command,
            k=options.k,
            rung=rung,
            tasks=tasks,
            sources=sources,
            recipes=table.shape[1],
            portfolio=rows,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
