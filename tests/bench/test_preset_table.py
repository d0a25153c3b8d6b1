"""The speed of every preset: bench/preset_table."""

import json

import gpurender as gr
from bench import preset_table
from tests.support import ROOT


def measured(preset, *, seconds, augment, batch_size, stages):
    median = 100.0 if preset == "rcdb-1k" else 300.0
    rate = {"p5": seconds, "median": median, "p95": 400.0}
    rows = [{"recipe": preset, "stage": stage, "images_per_second": rate, "cached": False} for stage in stages]
    return {"environment": {"commit": "abc"}, "rows": rows}


def test_every_preset_has_a_row_and_a_slow_one_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(preset_table, "measure", measured)
    file = tmp_path / "rows.json"
    assert preset_table.main(["--json", str(file), "--seconds", "50"]) == 1
    shown, complaints = capsys.readouterr()
    assert "rcdb-1k: less than 200 images/s" in complaints
    assert "rcdb-21k: less" not in complaints
    rows = [line for line in shown.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(gr.presets())
    assert rows[0].endswith("| 300 (50 to 400) | 300 (50 to 400) | – | – |")
    assert json.loads(file.read_text())["environment"] == {"commit": "abc"}
    assert preset_table.main(["--from", str(file)]) == 1
    assert capsys.readouterr().out == shown


def test_the_table_in_the_text_is_that_of_its_file():
    text = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    result = json.loads((ROOT / "bench/results/2026-11-27-epyc-2core-presets.json").read_text(encoding="utf-8"))
    assert preset_table.table(result) in text
    assert list(dict.fromkeys(row["recipe"] for row in result["rows"])) == list(gr.presets())
    assert all(row["images_per_second"]["median"] >= preset_table.GOAL for row in result["rows"])
    assert not result["environment"]["commit"].endswith("+")  # of a committed tree
