"""The cost of ``loader.stats()``: what is on and off when, and the figures of a result."""

import json
import sys

import pytest
import torch

import gpurender as gr
from bench import loader_stats
from tests.support import ROOT

CPU = torch.device("cpu")


class Loader:
    """Notes whether it is measured when a batch is asked for."""

    def __init__(self):
        self.measured, self.seen = False, []

    def __len__(self):
        return 3

    def __iter__(self):
        for _ in range(3):
            self.seen.append(self.measured)
            yield None


def test_series_are_measured_in_turn_and_only_one_of_them_is_on():
    loader = Loader()
    found = loader_stats.seconds_of(loader, 2, 4, CPU)
    assert {name: len(some) for name, some in found.items()} == {"off": 4, "on": 4, "again": 4}
    assert loader.seen[:4] == [False] * 4  # a pass and one
    turns = [["off", "on", "again"], ["on", "again", "off"], ["again", "off", "on"], ["off", "on", "again"]]
    assert loader.seen[4:] == [name == "on" for turn in turns for name in turn for _ in range(2)]


def test_percents_are_of_neighbours():
    assert loader_stats.percent([1.02, 2.04, 4.04, 8.0, 1.01], [1, 2, 4, 8, 1]) == {
        "median": 1.0,
        "interval": [0.0, 2.0],
    }


def test_a_result_has_its_figures(monkeypatch, tmp_path, capsys):
    small = gr.Noise(classes=4, instances=8, image_size=16)
    monkeypatch.setattr(loader_stats, "SETTINGS", {"small": (small, 4, 16, "crop", 2)})
    monkeypatch.setattr(
        sys, "argv", ["loader_stats", "--rounds", "5", "--processes", "2", "--json", str(tmp_path / "x.json")]
    )
    assert loader_stats.main() == 0
    result = json.loads((tmp_path / "x.json").read_text())
    assert list(result) == ["environment", "loader_stats"]
    [row] = result["loader_stats"]
    assert len(row["on_percent_of_processes"]) == 2
    assert list(row["images_per_second"]) == ["off", "on", "again"]
    assert 3 <= row["stages"] <= 12
    assert 10 < row["ns_per_stage"]["off"] < row["ns_per_stage"]["on"] < 1e6
    assert capsys.readouterr().out.startswith("small: images/s off ")


def test_what_is_written_of_the_cost_is_in_the_file():
    files = sorted(ROOT.glob("bench/results/*-loader-stats.json"))
    if not files:
        pytest.skip("nothing was measured yet")
    for row in json.loads(files[-1].read_text())["loader_stats"]:
        assert row["counted_percent"]["off"] < 0.2
        assert row["counted_percent"]["on"] < 1.0
        assert row["processes"] >= 4
        assert row["on_percent"]["median"] <= 1.0
        assert row["on_percent"]["interval"][1] <= 1.5
        assert row["processes"] * row["rounds_per_process"] >= 100
    assert files[-1].name in (ROOT / "bench/README.md").read_text()
