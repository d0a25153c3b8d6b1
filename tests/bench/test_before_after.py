"""Before and after a change: bench/before_after."""

import json

import pytest

from bench import before_after
from tests.support import ROOT


def test_the_table_in_the_text_is_that_of_its_file():
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    file = ROOT / "bench/results/2026-11-27-epyc-2core-before-after.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    assert before_after.table(result) in text
    assert not any(result[name]["commit"].endswith("+") for name in ("environment", "before"))  # of committed trees


def test_both_run_in_turn_and_what_is_kept_is_compared_with_what_was_drawn(monkeypatch, tmp_path, capsys):
    ran = []

    def bench(root, cache, preset, policy, seconds):
        ran.append((root.name, seconds))
        rate = {"old": 100.0, "new": 300.0}[root.name]
        rows = [
            {"recipe": preset, "stage": stage, "images_per_second": {"median": rate}} for stage in ("raster", "loader")
        ]
        if root.name == "new":
            rows += [{**row, "cached": True, "images_per_second": {"median": 900.0}} for row in rows]
        return {"environment": {"commit": root.name}, "rows": rows}

    monkeypatch.setattr(before_after, "bench", bench)
    file = tmp_path / "found.json"
    words = [str(tmp_path / "old"), str(tmp_path / "new"), "--json", str(file), "--rounds", "2", "--seconds", "5"]
    assert before_after.main(words) == 0
    shown = capsys.readouterr().out
    assert "| `fractaldb-1k` | 100 → 300 | 100 → 300 | 100 → 300 | 100 → 900 | 100 → 900 | 100 → 900 |" in shown
    assert ran[:12] == [("new", 0.2), ("old", 0.2)] * 6  # compiles
    assert ran[12:] == [("old", 5.0), ("new", 5.0)] * 6 + [("new", 5.0), ("old", 5.0)] * 6
    found = json.loads(file.read_text())
    assert (found["environment"]["commit"], found["before"]["commit"]) == ("new", "old")
    assert len(found["before_after"]) == 2 * 6 * (2 + 4)  # the first run does not count
    assert before_after.main(["--from", str(file)]) == 0
    assert capsys.readouterr().out == shown
    with pytest.raises(SystemExit):
        before_after.main([str(tmp_path)])
