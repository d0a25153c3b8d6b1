"""Benchmarks: training steps, pictures of results, and the acceptance run's bookkeeping. No time is judged."""

import contextlib
import json
import logging
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import gpurender as gr
from gpurender import bench, cli, devices, timing, training

sys.path.insert(0, str(ROOT / "bench"))

import acceptance
import steps

TINY = gr.VisualAtom(classes=3, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))


class Clock:
    """A GPU's time line that is none: every event is two milliseconds behind the one before."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def event(self, enable_timing):
        assert enable_timing
        clock = self

        class Event:
            def record(self):
                clock.now += 2.0
                self.at = clock.now
                clock.log.append("event")

            def elapsed_time(self, later):
                return later.at - self.at

        return Event()


@pytest.fixture
def clock(monkeypatch):
    """torch.cuda as far as timing needs it."""
    made = Clock()
    for name, stand_in in {
        "Event": made.event,
        "device": lambda device: contextlib.nullcontext(),
        "synchronize": lambda: made.log.append("wait"),
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda device: 5 << 20,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    return made


def test_a_gpu_is_timed_by_events_and_waited_for_between_windows(clock):
    """The first batch of a window is not counted, neither its images nor its time."""
    found = timing.time_batches(lambda: np.zeros(6), 0.0, torch.device("cpu"), "raster")
    assert found.rates == [pytest.approx(6 / 2e-3)] * timing.LEAST
    assert found.device_ms == 2.0
    assert found.batches == timing.LEAST * (timing.WINDOW - 1)
    assert found.peak_mib == 5
    assert clock.log == ["wait", *(["event"] * timing.WINDOW + ["wait"]) * timing.LEAST]


def test_steps_on_a_gpu_are_timed_window_by_window_in_turn(clock):
    taken = []

    class Trainer:
        def step(self, images, targets):
            taken.append(images)

    feeds = {name: iter(lambda name=name: (name, 0), None) for name in ("cached", "loader")}
    found = training.step_times(Trainer(), feeds, torch.device("cpu"), 0.0)
    assert found == {name: [2.0 / training.WINDOW] * timing.LEAST for name in feeds}
    windows = taken[2 * training.WARM_UP :]
    assert windows == (["cached"] * (training.WINDOW + 1) + ["loader"] * (training.WINDOW + 1)) * timing.LEAST


def test_batches_to_measure_are_all_of_an_epoch_then_of_the_next():
    numbers = bench.sample_numbers(TINY, torch.device("cpu"), 6)
    first, second = (torch.cat([next(numbers), next(numbers)]) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()


def test_training_steps_are_measured_beside_one_kept_batch(monkeypatch):
    monkeypatch.setattr(training, "WARM_UP", 2)
    result = bench.measure(TINY, device="cpu", batch_size=2, seconds=0.0, model="test_resnet")
    assert [row["stage"] for row in result["rows"]] == ["raster", "augment", "loader", "train"]
    row = result["rows"][-1]
    assert row["model"] == "test_resnet"
    for name in ("step_ms", "cached_step_ms"):
        assert 0 < row[name]["p5"] <= row[name]["median"] <= row[name]["p95"]
    expected = 100 * (row["step_ms"]["median"] / row["cached_step_ms"]["median"] - 1)
    assert row["overhead_percent"] == pytest.approx(expected, abs=0.01)
    assert "test_resnet" in bench.table(result)


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


def test_warming_draws_every_kind_of_batch(monkeypatch):
    """On a GPU this compiles what is compiled at first use; that it draws shows on a CPU."""
    from gpurender import warm

    seen = set()
    draw = gr.DataLoader.__iter__

    def noted(loader):
        seen.add((loader._recipe.family, loader._dtype, loader._memory_format, loader._shuffle))
        return draw(loader)

    monkeypatch.setattr(gr.DataLoader, "__iter__", noted)
    warm.draw_everything(torch.device("cpu"))
    assert len(seen) == 3 * 3 * 2 * 2


def test_warming_keeps_the_machine_code(monkeypatch, tmp_path, capsys):
    pytest.importorskip("cupy", reason="needs CuPy, whose NVRTC compiles")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("gpurender.cuda.compiled", lambda operation, architecture: operation.encode())
    assert cli.main(["doctor", "--warm", "sm_80", "sm_90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kept = sorted(path.name for path in (tmp_path / "gpurender").glob("kernels-*/*"))
    assert len(kept) == 4
    assert len(lines) == 5
    assert all(any(name in line for line in lines) for name in kept)
    assert "first use" in lines[-1]


def test_a_failing_step_is_recorded_and_the_others_go_on(tmp_path, capsys):
    def fails(quick):
        raise ValueError("pixel 7 differs")

    def absent(quick):
        raise steps.NotInstalledError("ncu is not installed")

    row = {"recipe": "r", "stage": "train", "batch_size": 2, "images_per_second": {"median": 12345.6}}
    chosen = {
        "one": fails,
        "two": absent,
        "three": lambda quick: {"rows": [row | {"overhead_percent": 1.5}], "quick": quick},
    }
    out = tmp_path / "seen.json"
    result = acceptance.perform(chosen, True, str(out))
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
    recipes = steps.small_recipes().values()
    assert {(recipe.family, recipe.variant) for recipe in recipes} >= {
        ("onepfrac", "released"), ("onepfrac", "paper"), ("fractaldb", "released"),
        ("visualatom", "released"), ("visualatom", "paper"),
    }  # fmt: skip
    assert all(len(recipe) >= 10_000 for recipe in recipes)
    assert set(steps.GPU_TESTS) == {
        path.stem.removeprefix("test_")
        for path in (ROOT / "tests").glob("test_*.py")
        if "pytest.mark.gpu" in path.read_text() and path.stem != "test_bench"
    }


def test_what_the_library_logs_is_kept():
    def logs(quick):
        for _ in range(2):
            logging.getLogger("gpurender").info("batches are launched one kernel at a time: %s", "no graph")
        return {}

    seen = acceptance.seen_of(logs, True)
    assert seen["passed"]
    assert seen["log"] == ["batches are launched one kernel at a time: no graph"]


def test_a_step_whose_process_dies_is_an_error(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so the process sees no GPU and leaves without a result
    with pytest.raises(RuntimeError, match="ended with status 2"):
        acceptance.alone("search", True)


def test_canvases_and_batches_are_compared(monkeypatch):
    monkeypatch.setattr(devices, "resolve", lambda device=None: torch.device("cpu"))
    assert steps.compare_canvases("tiny", TINY, 5, 2) == 10
    steps.compare_batches("tiny", TINY)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor.flip(-1))  # the GPU mirrors its images
    with pytest.raises(AssertionError, match="tiny"):
        steps.compare_canvases("tiny", TINY, 5, 2)
    with pytest.raises(AssertionError, match="tiny"):
        steps.compare_batches("tiny", TINY)


def test_a_checksum_sees_a_bit_and_a_place():
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32))
    assert torch.equal(steps.checksum(images), steps.checksum(images.clone()))
    one = images.clone()
    one.view(torch.int32)[1, 2, 3, 3] ^= 1
    assert (steps.checksum(one) == steps.checksum(images)).tolist() == [True, False, True]
    assert not (steps.checksum(images.flip(-1)) == steps.checksum(images)).any()


def test_consumers_take_their_sums_of_the_loader_s_batches():
    keywords = {"batch_size": 5, "image_size": 16, "device": "cpu", "shuffle": True}
    wanted = [steps.checksum(images) for images, _ in gr.DataLoader(TINY, **keywords)]
    found = steps.keeps_all(gr.DataLoader(TINY, **keywords))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("row", "gpu", "limit"),
    [
        ({"recipe": "onepfrac-1k", "stage": "raster", "image_size": 512, "cached": False}, "NVIDIA H200", 5.7e6),
        (
            {"recipe": "onepfrac-1k", "stage": "raster", "image_size": 512, "cached": True},
            "NVIDIA H200",
            4.8e12 / 2**18,
        ),
        ({"recipe": "visualatom-1k", "stage": "raster", "image_size": 512}, "NVIDIA H100 80GB HBM3", 3.35e12 / 2**18),
        ({"recipe": "visualatom-1k", "stage": "loader", "image_size": 224}, "NVIDIA H200", 4.8e12 / 301_056),
        ({"recipe": "visualatom-1k", "stage": "loader", "image_size": 224}, "GeForce GT 710", None),
    ],
)
def test_limits_are_the_chip_s(row, gpu, limit):
    assert steps.limit_of(row, gpu) == limit
    assert steps.percent(3.0, 4.0) == 75.0
    assert steps.percent(3.0, None) is None


def test_a_profile_is_read_launch_by_launch():
    head = '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"'
    text = f"""==PROF== Connected to process 7
printed by the program
{head}
"0","7","chaos_game_grey","Occupancy","Achieved Occupancy","%","36.1"
"0","7","chaos_game_grey","LaunchStats","Registers Per Thread","register/thread","79"
"1","7","polyline_draw","Occupancy","Achieved Occupancy","%","48,0"
==PROF== Disconnected"""
    assert steps.profiled(text) == [
        {"kernel": "chaos_game_grey", "Achieved Occupancy": "36.1 %", "Registers Per Thread": "79 register/thread"},
        {"kernel": "polyline_draw", "Achieved Occupancy": "48,0 %"},
    ]
    assert steps.profiled("==ERROR== no permission") == []


def test_a_tool_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(steps.shutil, "which", lambda tool: None)
    with pytest.raises(steps.NotInstalledError, match="no-such-tool"):
        steps.find("no-such-tool")
