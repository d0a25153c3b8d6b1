"""Report: a study as one page of HTML that loads nothing: its best configs, curves, importances and calibration."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from gpurender.recipes.base import recipe as as_recipe
from gpurender.renderer import Renderer
from gpurender.search import analysis
from gpurender.search.analysis import Row
from gpurender.search.study import Study
from gpurender.sheet import contact_sheet
from gpurender.util.plural import counted
from gpurender.util.version import __version__

SHOWN = 10  # configs of the table
PICTURES = 3  # recipes that are shown
WIDTH, HEIGHT, MARGIN = 640, 300, 48  # of a chart, in units of its own

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 64rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222 }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
td, th {{ padding: .2rem .6rem; border-bottom: 1px solid #ccc; text-align: left; white-space: nowrap }}
svg {{ max-width: 100%; height: auto }} svg text {{ font: 12px system-ui, sans-serif; fill: #444 }}
img {{ max-width: 100% }} pre {{ overflow-x: auto; background: #f4f4f4; padding: .5rem }}
.warning {{ background: #fff3cd; padding: .5rem }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
<footer><p>gpurender {version}</p></footer>
</body>
</html>
"""


def report(study: Study) -> str:
    """Return the page of a study.

    Raises:
        ValueError: the study has no results yet.
    """
    rows = study.table()
    if not analysis.finished(rows):
        raise ValueError(f"study: {study.place!r} has no results yet: run gpurender search work")
    parts = [
        _summary(study), _best(study, rows), _pictures(rows), _curves(rows), _importances(study, rows),
        _calibration(rows), _pareto(study, rows), _failures(rows),
    ]  # fmt: skip
    title = html.escape(f"Study {study.name}")
    return PAGE.format(title=title, body="\n".join(part for part in parts if part), version=__version__)


def _summary(study: Study) -> str:
    status, ladder = study.status(), study.ladder
    rungs = [
        [f"{rung}", f"{images:,}", f"{done:,}"]
        for rung, (images, done) in enumerate(zip(ladder.images, status["results"], strict=True))
    ]
    tasks = [
        [html.escape(name), html.escape(task.data), str(task.labels_per_class or "all")]
        for name, task in study.tasks.items()
    ]
    return (
        f"<p>{status['configs']:,} of {status['wanted']:,} configs, {status['finished']:,} finished; proposer "
        f"<code>{study.proposer}</code>, seed {study.seed}. One in {ladder.eta} goes on. The score is the mean over "
        "tasks of the accuracy, scaled so that chance is 0.</p>"
        + _table(["rung", "images", "results"], rungs)
        + _table(["task", "data", "labels per class"], tasks)
    )


def _best(study: Study, rows: Sequence[Row]) -> str:
    names = list(study.tasks)
    body = []
    for row in analysis.finished(rows)[:SHOWN]:
        own = [f"{100 * row['tasks'][name]['accuracy']:.1f}" for name in names]
        score = f"{row['score']:.4f}"
        body.append([str(row["number"]), str(row["rung"]), score, *own, html.escape(row["model"]), _parameters(row)])
    heads = ["config", "rung", "score", *(f"{html.escape(name)}, %" for name in names), "model", "parameters"]
    best = html.escape(json.dumps(json.loads(study.best().to_json()), indent=1))
    recipe = f"<details><summary>The best recipe</summary><pre>{best}</pre></details>"
    return f"<h2>Best configs</h2>{_table(heads, body)}{recipe}"


def _pictures(rows: Sequence[Row]) -> str:
    """Return contact sheets of the best recipes, each once."""
    shown: dict[str, Row] = {}
    for row in analysis.finished(rows):
        shown.setdefault(json.dumps(row["recipe"], sort_keys=True), row)
    parts = []
    for row in list(shown.values())[:PICTURES]:
        buffer = io.BytesIO()
        contact_sheet(Renderer(as_recipe(row["recipe"]), "cpu"), cols=8).save(buffer, format="PNG")
        png = base64.b64encode(buffer.getvalue()).decode()
        name = f"config {row['number']}"
        parts.append(f'<p>Images of {name}</p><img src="data:image/png;base64,{png}" alt="images of {name}">')
    return "<h2>Pictures of the best datasets</h2>" + "".join(parts)


def _curves(rows: Sequence[Row]) -> str:
    """Return the scores of every config against the number of images."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(analysis.finished(rows), key=lambda row: row["rung"]):
        lines.setdefault(row["key"], []).append((row["images"], row["score"]))
    chart = _chart(list(lines.values()), "images of the pre-training", "score", log=True)
    return f"<h2>Learning curves</h2><p>One line per config.</p>{chart}"


def _importances(study: Study, rows: Sequence[Row]) -> str:
    found = analysis.importances(rows, study.space)
    if not found:
        return ""
    body = [[html.escape(name), f"{share:.2f}", f"{count:,}"] for name, share, count in found]
    return (
        "<h2>Parameters that matter</h2><p>Share of the variance of the scores on rung 0 that lies between the values "
        "of a parameter, corrected for chance.</p>" + _table(["parameter", "share", "configs"], body)
    )


def _calibration(rows: Sequence[Row]) -> str:
    found = analysis.calibration(rows)
    if not found:
        return "<h2>Do low rungs predict high ones?</h2><p>Too few configs have reached a second rung.</p>"
    body = [
        [str(row["rung"]), row["figure"], str(row["top"]), str(row["configs"]), f"{row['spearman']:.2f}"]
        for row in found
    ]
    weak = [row for row in found if row["figure"] == "score" and row["spearman"] < analysis.WEAK]
    warning = "".join(
        f'<p class="warning">The score of rung {row["rung"]} says little about rung {row["top"]}: Spearman '
        f"{row['spearman']:.2f} over {row['configs']} configs. Choose a longer first rung, or let more go on.</p>"
        for row in weak
    )
    return (
        "<h2>Do low rungs predict high ones?</h2><p>Spearman's rank correlation of a figure with the score on the top "
        "rung, over the configs that reached it.</p>"
        + warning
        + _table(["rung", "figure", "top", "configs", "Spearman"], body)
    )


def _pareto(study: Study, rows: Sequence[Row]) -> str:
    """Return score against cost of the configs on their highest rung, with the ones that are not beaten.

    A table has those of the highest rung alone, which are the ones to choose from: their scores are of one kind.
    """
    seconds = analysis.costs(rows)
    best: dict[str, Row] = {}
    for row in analysis.finished(rows):
        best.setdefault(row["key"], row)
    points = [(seconds[key], row["score"]) for key, row in best.items()]
    front = [points[place] for place in analysis.pareto(points)]
    chart = _chart([front], "seconds of training", "score", points=points)
    body = [
        [str(row["number"]), f"{row['score']:.4f}", f"{row['training_seconds']:,.1f}", html.escape(row["model"]),
         _parameters(row)]
        for row in study.front()
    ]  # fmt: skip
    return (
        "<h2>Score and cost</h2><p>A point per config; the line has those that no cheaper one beats. The table "
        f"has those of the highest rung alone.</p>{chart}"
        + _table(["config", "score", "seconds of training", "model", "parameters"], body)
    )


def _failures(rows: Sequence[Row]) -> str:
    failed = [[str(row["number"]), html.escape(row["error"] or "")] for row in rows if row["score"] is None]
    if not failed:
        return ""
    return f"<h2>{counted(len(failed), 'config')} failed</h2>{_table(['config', 'why'], failed)}"


# -------------------------------------------------------------------------------------------------------------- drawing


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _parameters(row: Row) -> str:
    return html.escape(", ".join(f"{name.rpartition('.')[2]}={_short(x)}" for name, x in row["choices"].items()))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _chart(
    lines: Sequence[Sequence[tuple[float, float]]], across: str, up: str, *,
    points: Sequence[tuple[float, float]] | None = None, log: bool = False,
) -> str:  # fmt: skip
    """Return a chart as SVG: lines through points (x, y), and points without a line."""
    every = [point for line in lines for point in line] if points is None else list(points)
    x_axis = _Axis([x for x, _ in every], MARGIN, WIDTH - MARGIN, log)
    y_axis = _Axis([y for _, y in every], HEIGHT - MARGIN, MARGIN // 2, False)
    drawn = [
        f'<polyline points="{" ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in line)}" '
        'fill="none" stroke="#3465a4" stroke-opacity=".6"/>'
        for line in lines
    ]
    drawn += [f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3" fill="#3465a4"/>' for x, y in every]
    for value in x_axis.ticks():
        drawn.append(f'<text x="{x_axis.at(value):.1f}" y="{HEIGHT - 26}" text-anchor="middle">{value:,.4g}</text>')
    for value in y_axis.ticks():
        drawn.append(f'<text x="{MARGIN - 6}" y="{y_axis.at(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    drawn.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{across}</text>')
    drawn.append(f'<text x="4" y="12">{up}</text>')
    frame = f'<path d="M{MARGIN} {MARGIN // 2}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" stroke="#888"/>'
    inside = frame + "".join(drawn)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{up} against {across}">{inside}</svg>'


class _Axis:
    """Values along an axis of a chart, linear or logarithmic."""

    def __init__(self, values: Sequence[float], begin: float, end: float, log: bool) -> None:
        self._of = math.log if log else float
        self._low, self._high = min(values), max(values)
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        """Return the place of a value."""
        low, high = self._of(self._low), self._of(self._high)
        share = 0.5 if high == low else (self._of(value) - low) / (high - low)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        """Return the values that are written beside the axis."""
        return [self._low] if self._low == self._high else [self._low, self._high]
