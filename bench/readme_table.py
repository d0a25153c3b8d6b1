"""The table of speed in README: three runs of ``gpurender bench`` per preset and policy, in turn, at one commit.

    python -m bench.readme_table --json bench/results/NAME.json [--seconds T]
    python -m bench.readme_table --from bench/results/NAME.json     the table again

A figure is the median of the medians of the runs; beside it stand the lowest 5th and the highest 95th percentile.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpurender.benchmark.measure import measure
from gpurender.util.atomic_files import check_writable, replacing

PRESETS = {
    "onepfrac-1k": "512², 100,000 points",
    "fractaldb-1k": "362², 200,000 points",
    "visualatom-1k": "512², 60,000 lines",
}
POLICIES = ("crop", "deit")
RUNS = 3
COLUMNS = {  # stage, policy, whether bitmaps are kept
    "rendered": ("raster", None, False),
    "loader, crop": ("loader", "crop", False),
    "loader, DeiT": ("loader", "deit", False),
    "rendered, kept": ("raster", None, True),
    "loader, crop, kept": ("loader", "crop", True),
}


def runs(seconds: float) -> dict[str, Any]:
    """Return environment and rows of all runs; a row has its ``run`` and ``policy``."""
    found: dict[str, Any] = {"rows": []}
    jobs = [(run, preset, policy) for run in range(RUNS) for preset in PRESETS for policy in POLICIES]
    for run, preset, policy in tqdm(jobs, unit="run"):
        stages = ("raster", "loader") if policy == "crop" else ("loader",)
        result = measure(preset, seconds=seconds, augment=policy, batch_size=256, stages=stages)
        found.setdefault("environment", result["environment"])
        found["rows"] += [{**row, "run": run, "policy": policy} for row in result["rows"]]
    return found


def figure(rows: list[dict[str, Any]], preset: str, stage: str, policy: str | None, kept: bool) -> str:
    """Return the median of medians of some rows, with the range of their percentiles; a dash without rows."""
    wanted = (preset, stage, kept)
    rates = [
        row["images_per_second"]
        for row in rows
        if (row["recipe"], row["stage"], row.get("cached", False)) == wanted and policy in (None, row["policy"])
    ]
    if not rates:
        return "–"
    median = statistics.median(rate["median"] for rate in rates)
    low, high = min(rate["p5"] for rate in rates), max(rate["p95"] for rate in rates)
    return f"{median:,.0f} ({low:,.0f} to {high:,.0f})"


def table(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = [f"| images/s | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for preset, size in PRESETS.items():
        figures = [figure(result["rows"], preset, *of) for of in COLUMNS.values()]
        lines.append(f"| `{preset}`, {size} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stage; default 4")
    parser.add_argument("--from", dest="source", metavar="FILE", help="print the table of earlier rows instead")
    options = parser.parse_args(arguments)
    if options.source:
        print(table(json.loads(Path(options.source).read_text(encoding="utf-8"))))
        return 0
    if options.json:
        check_writable(options.json)
    result = runs(options.seconds)
    if options.json:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
