"""CPUs before and after a change: ``gpurender bench`` in two checkouts, in turn.

    python -m bench.before_after BEFORE AFTER --json bench/results/NAME.json [--rounds 3] [--seconds 1.5]
    python -m bench.before_after --from bench/results/NAME.json     the table again

BEFORE and AFTER are folders with checkouts. Each round runs every preset and policy in both, the order of the two
changing from round to round; a run before the first compiles the kernels. A figure is the median over rounds of the
medians; what is kept after and was drawn anew before is compared with what was drawn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpurender.util.atomic_files import check_writable, replacing

PRESETS = ("onepfrac-1k", "fractaldb-1k", "visualatom-1k")
POLICIES = ("crop", "deit")
COLUMNS = {  # stage, policy, whether bitmaps are kept after the change
    "rendered": ("raster", None, False),
    "loader, crop": ("loader", "crop", False),
    "loader, DeiT": ("loader", "deit", False),
    "rendered, kept": ("raster", None, True),
    "loader, crop, kept": ("loader", "crop", True),
    "loader, DeiT, kept": ("loader", "deit", True),
}


def bench(root: Path, cache: Path, preset: str, policy: str, seconds: float) -> dict[str, Any]:
    """Run ``gpurender bench`` of a checkout on the CPU; return its result."""
    out = cache / "result.json"
    words = ["bench", preset, "--augment", policy, "--seconds", str(seconds), "--device", "cpu", "--json", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(root), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "gpurender", *words]
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def runs(before: Path, after: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the environments of both checkouts and the rows of all rounds."""
    found: dict[str, Any] = {"environment": None, "before": None, "before_after": []}
    with tempfile.TemporaryDirectory() as name:
        roots = {"before": before.absolute(), "after": after.absolute()}
        caches = {side: Path(name) / side for side in roots}
        for cache in caches.values():
            cache.mkdir()
        jobs = [(number, preset, policy) for number in range(-1, rounds) for preset in PRESETS for policy in POLICIES]
        for number, preset, policy in tqdm(jobs, unit="run"):
            for side in ("before", "after") if number % 2 == 0 else ("after", "before"):
                result = bench(roots[side], caches[side], preset, policy, 0.2 if number < 0 else seconds)
                found["before" if side == "before" else "environment"] = result["environment"]
                if number >= 0:
                    found["before_after"] += [
                        {**row, "side": side, "round": number, "policy": policy} for row in result["rows"]
                    ]
    return found


def median(rows: list[dict[str, Any]], side: str, preset: str, stage: str, policy: str | None, kept: bool) -> Any:
    """Return the median of the medians of some rows; ``None`` without rows."""
    wanted = (side, preset, stage, kept)
    some = [
        row["images_per_second"]["median"]
        for row in rows
        if (row["side"], row["recipe"], row["stage"], row.get("cached", False)) == wanted
        and policy in (None, row["policy"])
    ]
    return statistics.median(some) if some else None


def table(result: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    rows = result["before_after"]
    lines = [f"| images/s | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for preset in PRESETS:
        cells = []
        for stage, policy, kept in COLUMNS.values():
            old, new = (median(rows, "before", preset, stage, policy, False),
                        median(rows, "after", preset, stage, policy, kept))  # fmt: skip
            cells.append("–" if old is None or new is None else f"{old:,.0f} → {new:,.0f}")
        lines.append(f"| `{preset}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure or print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, metavar="BEFORE AFTER", help="two folders")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each stage; default 1.5")
    parser.add_argument("--from", dest="source", metavar="FILE", help="print the table of earlier rows instead")
    options = parser.parse_args(arguments)
    if options.source:
        print(table(json.loads(Path(options.source).read_text(encoding="utf-8"))))
        return 0
    if len(options.checkouts) != 2:
        parser.error(f"BEFORE AFTER must be two folders, got {len(options.checkouts)}")
    if options.json:
        check_writable(options.json)
    result = runs(*options.checkouts, options.rounds, options.seconds)
    if options.json:
        with replacing(options.json) as temporary:
            Path(temporary).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
