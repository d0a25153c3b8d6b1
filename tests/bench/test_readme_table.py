"""README's table of speed: its figures are those of its file, and its file is of one commit."""

import json
import re

import pytest

from bench import readme_table
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_figure_is_the_median_of_medians_within_the_range_of_all_runs():
    rates = [(90, 100, 120), (80, 130, 140), (95, 110, 150)]
    rows = [
        {"recipe": "a", "stage": "loader", "policy": "crop", "images_per_second": {"p5": a, "median": b, "p95": c}}
        for a, b, c in rates
    ]
    other = {
        "recipe": "a",
        "stage": "loader",
        "policy": "deit",
        "images_per_second": {"p5": 1, "median": 2, "p95": 9e3},
    }
    kept = {**rows[0], "cached": True, "images_per_second": {"p5": 3, "median": 4, "p95": 5}}
    assert readme_table.figure([*rows, other, kept], "a", "loader", "crop", False) == "110 (80 to 150)"
    assert readme_table.figure([*rows, other, kept], "a", "loader", "crop", True) == "4 (3 to 5)"
    assert readme_table.figure([*rows, other, kept], "a", "loader", "deit", True) == "–"


def test_the_table_of_readme_is_that_of_its_file():
    (file,) = re.findall(r"bench/results/[\w-]+-readme\.json", README)
    result = json.loads((ROOT / file).read_text(encoding="utf-8"))
    assert readme_table.table(result) in README
    assert len({row["run"] for row in result["rows"]}) == readme_table.RUNS
    assert not result["environment"]["commit"].endswith("+")  # of a committed tree


def test_rows_are_kept_and_shown_again(monkeypatch, tmp_path, capsys):
    def measured(preset, *, seconds, augment, batch_size, stages):
        rate = {"p5": seconds, "median": seconds + 1, "p95": seconds + 2}
        rows = [
            {"recipe": preset, "stage": stage, "images_per_second": rate, "cached": cached}
            for stage in stages
            for cached in ((False,) if preset == "visualatom-1k" else (True, False))
        ]
        return {"environment": {"commit": "abc"}, "rows": rows}

    monkeypatch.setattr(readme_table, "measure", measured)
    file = tmp_path / "rows.json"
    assert readme_table.main(["--json", str(file), "--seconds", "2000"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("2,001 (2,000 to 2,002)") == 3 * 3 + 2 * 2
    assert "| – | – |" in shown  # nothing of VisualAtom repeats
    assert readme_table.main(["--from", str(file)]) == 0
    assert capsys.readouterr().out == shown
    with pytest.raises(SystemExit):
        readme_table.main(["--seconds", "many"])
