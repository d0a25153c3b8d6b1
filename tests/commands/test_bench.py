"""``gpurender bench``: what is handed on, printed and written."""

import inspect
import json

import pytest

from gpurender.benchmark import measure, plot
from gpurender.commands import cli

ROWS = [
    {"stage": stage, "images_per_second": {"median": 10.0, "p5": 9.0, "p95": 11.0}, "host_ms": 1.0, "device_ms": None,
     "peak_mib": 5}
    for stage in ("raster", "loader")
]  # fmt: skip
HERE = {"gpu": None, "cpu": "EPYC", "cores": 2, "threads": 4, "numba": "0.68", "torch": "2.14"}


@pytest.fixture
def called(monkeypatch):
    """Calls of ``measure``, which has two rows."""
    calls = []

    def two(*given, on_row, **more):
        calls.append((given, more))
        for count in (1, 2):
            on_row({"environment": HERE, "rows": ROWS[:count]})
        return {"environment": HERE, "rows": ROWS}

    monkeypatch.setattr(measure, "measure", two)
    return calls


def test_what_is_not_given_is_measure_s_own(called, monkeypatch, capsys):
    assert cli.main(["bench", "r"]) == 0
    wanted = {"device": None, "batch_size": 256, "seconds": 5.0, "augment": "crop", "model": None}
    assert called == [(("r",), wanted)]
    monkeypatch.undo()
    own = inspect.signature(measure.measure).parameters
    assert {name: own[name].default for name in wanted} == wanted
    result = {"environment": HERE, "rows": ROWS}
    assert capsys.readouterr().out == measure.table(result) + "\n"


def test_every_option_is_handed_on_and_the_result_is_written(called, tmp_path):
    path = tmp_path / "r.json"
    words = ["--device", "cuda:1", "--batch-size", "8", "--seconds", "2.5", "--augment", "deit", "--train", "vit"]
    assert cli.main(["bench", "r", *words, "--json", str(path)]) == 0
    options = {"device": "cuda:1", "batch_size": 8, "seconds": 2.5, "augment": "deit", "model": "vit"}
    assert called == [(("r",), options)]
    assert path.read_text() == json.dumps({"environment": HERE, "rows": ROWS}, indent=2) + "\n"
    assert cli.main(["bench", "r", "--json", str(tmp_path / "none" / "r.json")]) == 2
    assert len(called) == 1  # refused before long work


@pytest.mark.parametrize(("count", "said"), [(1, "1 row"), (3, "3 rows")])
def test_a_plot_is_named(monkeypatch, capsys, count, said):
    drawn = []
    monkeypatch.setattr(plot, "plot", lambda *given: drawn.append(given) or count)
    assert cli.main(["bench", "--plot", "a", "b"]) == 0
    assert cli.main(["bench", "--plot", "a", "-o", "x.svg"]) == 0
    assert drawn == [(["a", "b"], "bench.png"), (["a"], "x.svg")]
    assert capsys.readouterr().out == f"bench.png: {said}\nx.svg: {said}\n"


@pytest.mark.parametrize("option", ["--device", "--train", "--json"])
def test_a_plot_measures_nothing(monkeypatch, capsys, option):
    monkeypatch.setattr(plot, "plot", None)
    assert cli.main(["bench", "--plot", "a", option, "x"]) == 2
    assert f"{option} must be left out with --plot, which measures nothing, got 'x'" in capsys.readouterr().err
