"""Benchmarks: training steps, pictures of results, and the acceptance run's bookkeeping. No time is judged."""

import json
import sys

import pytest
import torch
from conftest import ROOT
from PIL import Image

import gpurender as gr
from gpurender import bench, cli

sys.path.insert(0, str(ROOT / "bench"))

import acceptance

TINY = gr.VisualAtom(classes=3, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))


def test_training_steps_are_measured_beside_one_batch_for_ever():
    result = bench.measure(TINY, device="cpu", batch_size=2, seconds=0.0, train="test_resnet")
    assert [row["stage"] for row in result["rows"]] == ["raster", "augment", "loader", "train"]
    row = result["rows"][-1]
    assert row["model"] == "test_resnet"
    for name in ("step_ms", "cached_step_ms"):
        assert 0 < row[name]["p5"] <= row[name]["median"] <= row[name]["p95"]
    expected = 100 * (row["step_ms"]["median"] / row["cached_step_ms"]["median"] - 1)
    assert row["overhead_percent"] == pytest.approx(expected, abs=0.01)
    assert "one batch for ever" in " ".join(bench.table(result).split())


def test_a_model_that_is_none_is_named(capsys):
    assert cli.main(["bench", "onepfrac-1k", "--batch-size", "1", "--seconds", "0", "--train", "no_such_model"]) in (
        1,
        2,
    )
    assert "no_such_model" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_results_become_a_picture(tmp_path, suffix):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    out = tmp_path / f"rates{suffix}"
    results = [str(ROOT / "bench/results")]
    assert cli.main(["bench", "--plot", *results, "-o", str(out)]) == 0
    if suffix == ".png":
        with Image.open(out) as picture:
            assert picture.width > 800
            assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096)) > 20
    else:
        text = out.read_text()
        assert "<svg" in text
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "nowhere.json"], "nowhere.json"),
        (["--plot", "{empty}"], "without result files"),
        (["--plot", "{wrong}"], "is not a bench result"),
        (["--plot", "{results}", "-o", "out.txt"], "output must end in .png"),
        (["--plot", "{results}", "-o", "nowhere/out.png"], "nowhere/out.png"),
        ([], "RECIPE must be"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.json").write_text('{"rows": [{}], "environment": {}}')
    places = {"empty": "empty", "wrong": "wrong.json", "results": str(ROOT / "bench/results")}
    assert cli.main(["bench", *(argument.format(**places) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_warming_names_the_architectures_it_knows(monkeypatch, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert cli.main(["doctor", "--warm"]) == 2
    assert "sm_90" in capsys.readouterr().err
    assert cli.main(["doctor", "--warm", "sm_1"]) == 2
    assert "got 'sm_1'" in capsys.readouterr().err


def test_warming_keeps_the_machine_code(monkeypatch, tmp_path, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("gpurender.cuda.compiled", lambda operation, architecture: operation.encode())
    assert cli.main(["doctor", "--warm", "sm_80", "sm_90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kept = sorted(path.name for path in (tmp_path / "gpurender/kernels").iterdir())
    assert len(kept) == 4
    assert len(lines) == 5
    assert all(any(name in line for line in lines) for name in kept)
    assert "first use" in lines[-1]


def test_a_failing_step_is_recorded_and_the_others_go_on(tmp_path, capsys):
    def fails(quick):
        raise ValueError("pixel 7 differs")

    def absent(quick):
        raise FileNotFoundError("ncu is not installed")

    row = {"recipe": "r", "stage": "train", "batch_size": 2, "images_per_second": {"median": 12345.6}}
    steps = {
        "one": fails,
        "two": absent,
        "three": lambda quick: {"rows": [row | {"overhead_percent": 1.5}], "quick": quick},
    }
    out = tmp_path / "seen.json"
    result = acceptance.perform(steps, True, str(out))
    assert json.loads(out.read_text()) == result
    assert [seen["passed"] for seen in result["steps"].values()] == [False, None, True]
    text = acceptance.summary(result)
    assert "pixel 7 differs" in text
    assert "left out" in text
    assert "12,346 images/s, +1.5 % a step" in text


def test_without_a_gpu_acceptance_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert acceptance.main([]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err


def test_every_family_is_among_the_recipes_compared():
    recipes = acceptance.small_recipes().values()
    assert {(recipe.family, recipe.variant) for recipe in recipes} >= {
        ("onepfrac", "released"), ("onepfrac", "paper"), ("fractaldb", "released"),
        ("visualatom", "released"), ("visualatom", "paper"),
    }  # fmt: skip
    assert all(len(recipe) >= 2000 for recipe in recipes)
    assert set(acceptance.GPU_TESTS) == {
        path.stem.removeprefix("test_")
        for path in (ROOT / "tests").glob("test_*.py")
        if "pytest.mark.gpu" in path.read_text() and path.stem != "test_bench"
    }
