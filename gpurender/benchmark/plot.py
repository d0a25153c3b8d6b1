"""Plots of bench results."""

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpurender.util.atomic_files import check_writable, replacing
from gpurender.util.texts import read_text

STAGES = {"raster": "#4477aa", "augment": "#ccbb44", "loader": "#ee6677", "train": "#228833"}


def plot(sources: Sequence[str], output: str) -> int:
    """Plot the rows of result files: images/s by recipe, machine and stage, medians with 5th to 95th percentile.

    Args:
        sources: result files, or directories of them.
        output: the picture to write (.png, .svg or .pdf).

    Returns:
        The number of rows shown.

    Raises:
        ValueError: no results, a file that is not a result, an output that cannot be written.
        RuntimeError: matplotlib is missing.
    """
    if os.path.splitext(output)[1].lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"output must end in .png, .svg or .pdf, got {output!r}")
    check_writable(output)
    files = dict.fromkeys(file.resolve() for source in sources for file in _files(source))  # each file once
    rows = [row for file in files for row in _rows(file)]
    if not rows:
        raise ValueError(f"no bench results (with rows) in {', '.join(sources)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RuntimeError("plotting needs matplotlib: pip install 'gpurender[plot]'") from None
    _tell_apart(rows)
    rows.sort(key=lambda row: (row["machine"], row["recipe"], list(STAGES).index(row["stage"]), row["label"]))
    machines = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["machine"])]
    heights = [2 + len(group) for group in machines]
    figure = Figure(figsize=(9, 0.4 + 0.32 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(machines), squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(panels, machines, strict=True):
        _bars(axes, group)
    panels[-1].set_xlabel("images per second (median, 5th to 95th percentile of measurements)")
    with replacing(output) as temporary:
        figure.savefig(temporary, format=os.path.splitext(output)[1][1:].lower(), dpi=150)
    return len(rows)


def _files(source: str) -> list[Path]:
    path = Path(source)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{source}: a directory without result files (*.json)")
    return files


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a result, each with its machine and a label; a result of another kind has none."""
    try:
        result = json.loads(read_text(file))
        if "rows" not in result:
            return []
        here = result["environment"]
        cpu = f"{here['cpu']}, {here['threads']} threads"
        return [
            {
                "machine": cpu if row["device"] == "cpu" else here["gpu"],
                "recipe": row["recipe"],
                "stage": row["stage"],
                "label": _label(row),
                "rate": [row["images_per_second"][name] for name in ("median", "p5", "p95")],
                "size": row["batch_size"],
                "sources": _sources(here, file, number),
            }
            for number, row in enumerate(result["rows"], 1)
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise ValueError(f"{file} is not a bench result: {reason}") from None


def _label(row: dict[str, Any]) -> str:
    """Return what distinguishes rows of a stage: the model, the policy unless it is crop, kept bitmaps or not."""
    policy, kept = row.get("augment", "crop"), {None: "", True: ", kept", False: ", rendered"}[row.get("cached")]
    return (f" {row['model']}" if "model" in row else "") + (f", {policy}" if policy != "crop" else "") + kept


def _sources(here: dict[str, Any], file: Path, number: int) -> tuple[str, ...]:
    """Return descriptions of a row's origin, shortest first; the last one is unique."""
    date, commit = str(here.get("date") or "no date"), str(here.get("commit") or "")[:7] or "no commit"
    return date[:10], commit, date[:16], f"{file.stem}, row {number}", f"{file}, row {number}"


def _tell_apart(rows: list[dict[str, Any]]) -> None:
    """Add the origin to bars of one name: the first of day, commit, minute, file and path that differs for all."""
    namesakes: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        namesakes.setdefault((row["machine"], _name(row)), []).append(row)
    for group in namesakes.values():
        for kind in zip(*(row["sources"] for row in group), strict=True):
            if len(group) == 1 or len(set(kind)) < len(group):
                continue
            for row, source in zip(group, kind, strict=True):
                row["label"] += f" ({source})"
            break


def _name(row: dict[str, Any]) -> str:
    """Return the text beside a bar."""
    return f"{row['recipe']}: {row['stage']}{row['label']}, batch {row['size']}"


def _bars(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Plot the panel of a machine: one bar per row, grouped by recipe."""
    places, place = [], 0.0
    for before, row in zip([None, *rows], rows, strict=False):
        new = before is not None and before["recipe"] != row["recipe"]
        place += 1.6 if new else 1.0
        places.append(place)
    medians = [row["rate"][0] for row in rows]
    low, high = ([abs(row["rate"][i] - row["rate"][0]) for row in rows] for i in (1, 2))
    colors = [STAGES[row["stage"]] for row in rows]
    axes.barh(places, medians, xerr=(low, high), color=colors, height=0.85, error_kw={"lw": 1, "capsize": 2})
    for y, row in zip(places, rows, strict=True):
        axes.text(row["rate"][2], y, f"  {row['rate'][0]:,.0f}", va="center", fontsize=8)
    axes.set_yticks(places, [_name(row) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(f"gpurender on {rows[0]['machine']}", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
