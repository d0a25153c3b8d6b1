"""The speed of every preset in one table: ``gpurender bench`` of each, one after the other, at one commit.

    python -m bench.preset_table --json bench/results/NAME.json [--seconds T]
    python -m bench.preset_table --from bench/results/NAME.json     the table again

A figure is the median over batches of 128, beside it the 5th to the 95th percentile. A preset whose classes a search
finds is searched first, outside the clock.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.readme_table import figure
from gpurender import recipes
from gpurender.benchmark.measure import measure
from gpurender.util.atomic_files import check_writable, replacing

COLUMNS = {  # stage, policy, whether bitmaps are kept
    "rendered": ("raster", None, False),
    "loader, crop": ("loader", "crop", False),
    "rendered, kept": ("raster", None, True),
    "loader, crop, kept": ("loader", "crop", True),
}
GOAL = 200  # images/s on two cores that no preset may miss


def runs(seconds: float) -> dict[str, Any]:
    """Return environment and rows of all presets."""
    found: dict[str, Any] = {"rows": []}
    for preset in tqdm(recipes.presets(), unit="preset"):
        result = measure(preset, seconds=seconds, augment="crop", batch_size=128, stages=("raster", "loader"))
        found.setdefault("environment", result["environment"])
        found["rows"] += [{**row, "policy": "crop"} for row in result["rows"]]
    return found


def table(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    lines = [f"| images/s | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for preset in dict.fromkeys(row["recipe"] for row in result["rows"]):
        figures = [figure(result["rows"], preset, *of) for of in COLUMNS.values()]
        lines.append(f"| `{preset}` | {' | '.join(figures)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure or print; return the exit status, 1 if a preset misses the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each stage; default 3")
    parser.add_argument("--from", dest="source", metavar="FILE", help="print the table of earlier rows instead")
    options = parser.parse_args(arguments)
    if options.source:
        result = json.loads(Path(options.source).read_text(encoding="utf-8"))
    else:
        if options.json:
            check_writable(options.json)
        result = runs(options.seconds)
    if options.json:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    slow = {row["recipe"] for row in result["rows"] if row["images_per_second"]["median"] < GOAL}
    for preset in sorted(slow):
        print(f"{preset}: less than {GOAL} images/s", file=sys.stderr)
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
