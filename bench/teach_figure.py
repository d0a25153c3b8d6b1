"""The figure and the table of ``bench.teach``.

    python -m bench.teach_figure bench/results/NAME.json -o docs/teach.png

One row of panels per model: accuracy on test images by recipe and task with few labels, mean and standard deviation
over seeds; where the study ``lengths`` was run, accuracy against the number of pre-training images. The table is
printed as Markdown.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from gpurender.util.atomic_files import replacing

COLORS = {
    "scratch": "#999999", "noise": "#bbbbbb", "onepfrac": "#4477aa", "fractaldb": "#228833", "visualatom": "#ee6677",
}  # fmt: skip
Row = dict[str, Any]


def models(studies: dict[str, list[Row]]) -> list[str]:
    """Return the models that have few-label rows."""
    return [name.partition(" ")[2] for name in studies if name.startswith("few-labels ")]


def summary(rows: list[Row], recipe: str, task: str, labels: int) -> tuple[float, float, int]:
    """Return mean, standard deviation and number of the accuracies in percent of some rows; NaN without rows."""
    found = [
        100.0 * row["accuracy"] for row in rows if (row["recipe"], row["task"], row["labels"]) == (recipe, task, labels)
    ]
    if not found:
        return float("nan"), float("nan"), 0
    return statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0, len(found)


def kinds(rows: list[Row]) -> list[tuple[str, int]]:
    """Return tasks and label counts in the order of the rows."""
    return list(dict.fromkeys((row["task"], row["labels"]) for row in rows))


def table(studies: dict[str, list[Row]]) -> str:
    """Return accuracies as Markdown: a line per model and recipe, a column per task and label count."""
    lines = []
    for model in models(studies):
        rows = studies[f"few-labels {model}"]
        columns = sorted(kinds(rows))
        if not lines:
            heads = [f"{task}, {labels}" for task, labels in columns]
            lines += [f"| model | weights | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
        for recipe in dict.fromkeys(row["recipe"] for row in rows):
            figures = []
            for task, labels in columns:
                mean, spread, count = summary(rows, recipe, task, labels)
                figures.append(f"{mean:.1f} ± {spread:.1f}" + ("" if count == 3 else f" ({count})") if count else "–")
            lines.append(f"| {model} | {recipe} | {' | '.join(figures)} |")
    return "\n".join(lines)


def draw(studies: dict[str, list[Row]], output: Path) -> None:
    """Draw the panels into a file."""
    from matplotlib.figure import Figure

    names = models(studies)
    figure = Figure(figsize=(11, 3.6 * len(names)), layout="constrained")
    lengths = {model: studies[f"lengths {model}"] for model in names if f"lengths {model}" in studies}
    columns = 2 if lengths else 1
    panels = figure.subplots(len(names), columns, squeeze=False, width_ratios=(3, 2)[:columns])
    for row, model in zip(panels, names, strict=True):
        rows = studies[f"few-labels {model}"]
        _bars(row[0], rows)
        row[0].set_title(f"{model}: few labels")
        if model in lengths:
            curves(row[1], [*lengths[model], *rows])
            row[1].set_title(f"{model}: 10 labels per class, seed 0")
        elif lengths:
            row[1].set_axis_off()
    with replacing(output) as temporary:
        figure.savefig(temporary, format=output.suffix[1:], dpi=130)


def _bars(axes: Any, rows: list[Row]) -> None:
    columns = sorted(kinds(rows))
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    width = 0.8 / len(recipes)
    for number, recipe in enumerate(recipes):
        found = [summary(rows, recipe, *column) for column in columns]
        places = [place + number * width for place in range(len(columns))]
        axes.bar(
            places, [mean for mean, _, _ in found], width, yerr=[spread for _, spread, _ in found],
            color=COLORS.get(recipe), label=recipe, capsize=2,
        )  # fmt: skip
    axes.set_xticks(
        [place + 0.4 - width / 2 for place in range(len(columns))],
        [f"{task}\n{labels} labels" for task, labels in columns],
    )
    axes.set_ylabel("accuracy on test images (%)")
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=8, ncols=len(recipes), loc="upper left")


def curves(axes: Any, rows: list[Row]) -> None:
    """Plot accuracy, the mean over tasks with 10 labels, against images; seed 0, the seed of all lengths."""
    rows = [row for row in rows if row["labels"] == 10 and row["seed"] == 0]
    start = [row["accuracy"] for row in rows if row["recipe"] == "scratch"]
    for recipe in dict.fromkeys(row["recipe"] for row in rows if row["recipe"] not in ("scratch", "noise")):
        by_length: dict[int, list[float]] = {0: start}
        for row in rows:
            if row["recipe"] == recipe:
                by_length.setdefault(row["images"], []).append(row["accuracy"])
        full = max(map(len, by_length.values()))
        points = sorted((n, 100 * statistics.mean(some)) for n, some in by_length.items() if len(some) == full)
        axes.plot([n / 1000 for n, _ in points], [mean for _, mean in points], "o-", color=COLORS[recipe], label=recipe)
    _dressed(axes)


def _dressed(axes: Any) -> None:
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlabel("pre-training images (thousands)")
    axes.set_ylabel("mean accuracy of the tasks (%)")
    axes.legend(fontsize=8)


def main() -> int:
    """Draw the figure of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="a result of bench.teach")
    parser.add_argument("-o", "--output", type=Path, help="the picture (.png or .svg)")
    options = parser.parse_args()
    studies = json.loads(options.result.read_text(encoding="utf-8"))["studies"]
    print(table(studies))
    if options.output:
        draw(studies, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
