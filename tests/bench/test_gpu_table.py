"""README's table of a GPU: its figures are those of its file."""

import json
import re

import pytest

from tests.support import ROOT

FILE = "bench/results/2026-11-28-h100-first.json"
COLUMNS = [(stage, augment, kept) for kept in (False, True) for stage, augment in (
    ("raster", None), ("loader", "crop"), ("loader", "deit"))]  # fmt: skip


@pytest.mark.parametrize("recipe", ["onepfrac-1k", "fractaldb-1k", "visualatom-1k"])
def test_the_figures_are_those_of_the_run(recipe):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin = text.index(FILE)
    line = next(line for line in text[begin:].splitlines() if line.startswith(f"| `{recipe}`"))
    shown = [cell.strip() for cell in line.split("|")[2:-1]]
    steps = json.loads((ROOT / FILE).read_text(encoding="utf-8"))["steps"]
    rows = dict(steps)["table"]["rows"]
    found = {
        (row["stage"], row.get("augment"), row.get("cached")): f"{row['images_per_second']['median']:,.0f}"
        for row in rows
        if row["recipe"] == recipe and row["batch_size"] == 1024
    }
    assert shown == [found.get(column, "–") for column in COLUMNS]
    assert re.fullmatch(r"[\d,]+", shown[0])
