"""Benchmarks: rows, warm-ups, training steps, and pictures of results. No time is judged."""

import contextlib
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender.benchmark import measure as bench
from gpurender.benchmark import plot, timing, training
from gpurender.commands import cli
from gpurender.kernels import shuffle
from gpurender.recipes import ifs
from gpurender.runtime import devices
from tests.support import ROOT
from tests.support.bars import Bars

TINY = gr.VisualAtom(classes=3, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))


class Clock:
    """A GPU's time line that is none: every event is two milliseconds behind the one before."""

    def __init__(self):
        self.now, self.log, self.devices = 0.0, [], []

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
        "device": lambda device: made.devices.append(device) or contextlib.nullcontext(),
        "synchronize": lambda: made.log.append("wait"),
        "reset_peak_memory_stats": lambda: made.log.append("reset"),
        "max_memory_allocated": lambda device: 5 << 20,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    return made


def test_a_gpu_is_timed_by_events_and_waited_for_between_windows(clock):
    """The first batch of a window is not counted, neither its images nor its time."""
    found = timing.time_batches(lambda: np.zeros(6), 0.0, torch.device("cpu"), "raster")
    assert found.rates == [pytest.approx(6 / 2e-3)] * 5
    assert found.device_ms == 2.0
    assert 0 < found.host_ms < 1e3
    assert found.batches == 5 * (32 - 1)
    assert found.peak_mib == 5
    assert clock.devices == [torch.device("cpu")]
    assert clock.log == ["wait", "reset", *(["event"] * 32 + ["wait"]) * 5]


def test_steps_on_a_gpu_are_timed_window_by_window_in_turn(clock):
    taken = []

    class Trainer:
        def step(self, images, targets):
            taken.append(images)

    feeds = {name: iter(lambda name=name: (name, 0), None) for name in ("cached", "loader")}
    found = training.step_times(Trainer(), feeds, torch.device("cpu"), 0.0)
    assert found == {name: [2.0 / 10] * 5 for name in feeds}
    assert clock.devices == [torch.device("cpu")] * 10
    windows = taken[2 * 8 :]
    assert windows == (["cached"] * (10 + 1) + ["loader"] * (10 + 1)) * 5


def test_batches_to_measure_are_all_of_an_epoch_then_of_the_next():
    numbers = bench.index_batches(TINY, torch.device("cpu"), 6)
    first, second = (torch.cat([next(numbers), next(numbers)]) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()


def test_training_steps_are_measured_beside_one_kept_batch():
    pytest.importorskip("timm")
    result = bench.measure(TINY, device="cpu", batch_size=2, seconds=0.0, model="test_resnet")
    assert [row["stage"] for row in result["rows"]] == ["raster", "augment", "loader", "train"]
    row = result["rows"][-1]
    assert row["model"] == "test_resnet"
    for name in ("step_ms", "cached_step_ms"):
        assert 0 < row[name]["p5"] <= row[name]["median"] <= row[name]["p95"]
    expected = 100 * (row["step_ms"]["median"] / row["cached_step_ms"]["median"] - 1)
    assert row["overhead_percent"] == pytest.approx(expected, abs=0.01)
    low, high = row["overhead_interval_percent"]
    assert low <= high
    assert row["within_noise"] == (low <= 0 <= high)
    assert "test_resnet" in bench.table(result)


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize(
    ("seconds", "took", "on_cpu", "on_gpu"),
    [
        (5.0, 4.7, 1, 8),  # a step of seconds is not repeated
        (5.0, 0.3, 4, 8),  # until a second is over
        (0.5, 0.01, 25, 32),  # or half of what is measured
        (0.0, 0.01, 1, 8),
    ],
)
def test_a_warm_up_ends_by_time(monkeypatch, gpu, seconds, took, on_cpu, on_gpu):
    """On a GPU in eights, after each of which the host waits."""
    now, waits = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(now[0]))
    monkeypatch.setattr(devices, "on_gpu", lambda device: gpu)

    def step():
        now[0] += took

    count = timing.warm_up(step, seconds, torch.device("cpu"), "raster")
    assert count == (on_gpu if gpu else on_cpu)
    assert len(waits) == (count // 8 if gpu else 0)


def test_a_warm_up_shows_that_it_is_under_way(monkeypatch):
    """At its beginning, before the first step, and nothing is left of it."""
    shown = []

    class Bar(contextlib.nullcontext):
        def __init__(self, **options):
            shown.append(options)
            super().__init__(self)

        def update(self):
            shown.append("step")

    monkeypatch.setattr(timing, "progress", Bar)
    timing.warm_up(lambda: shown.append("runs"), 0.0, torch.device("cpu"), "loader")
    assert shown[1:] == ["runs", "step"]
    assert (shown[0]["desc"], shown[0]["delay"], shown[0]["leave"]) == ("loader: warm-up", 0, False)


@pytest.mark.parametrize("took", [5.0, 2.0])
def test_a_slow_training_step_runs_a_dozen_times_and_says_so(monkeypatch, caplog, took):
    """A step of seconds on a CPU, measured for one: once to warm each loop up, then five pairs."""
    now, taken = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Trainer:
        def step(self, images, targets):
            taken.append(images)
            now[0] += took

    feeds = {name: iter(lambda name=name: (name, 0), None) for name in ("cached", "loader")}
    training.step_times(Trainer(), feeds, torch.device("cpu"), 1.0)
    assert taken == ["cached", "loader", *["cached", "loader"] * 5]
    said = "a training step takes 5 s, and 11 more follow; smaller batches take less"
    assert [record.getMessage() for record in caplog.records] == ([said] if took > 2.0 else [])


@pytest.mark.parametrize("count", [*range(1, 40), 200, 1000, 1001, 5000])
def test_an_interval_of_the_median_is_the_sign_test_s(count):
    """Against SciPy's binomial distribution: the narrowest pair of sorted values that is missed in 5 % at most."""
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy to compare with")
    values = [1.0 + 0.01 * i for i in range(count)]
    low, high = (1.0 + percent / 100 for percent in timing.paired_percent(values[::-1], [1.0] * count))
    below = round((low - 1.0) / 0.01)
    assert round((high - 1.0) / 0.01) == count - 1 - below
    chance = 2 * stats.binom.cdf(below, count, 0.5)
    if count >= 6:
        assert chance <= 0.05
        next_ones = 1 if count <= 1000 else 2  # the normal distribution's may be narrower by one
        assert 2 * stats.binom.cdf(below + next_ones, count, 0.5) > 0.05
    else:
        assert below == 0


def test_pairs_take_out_what_changes_both():
    """A clock that halves midway spreads both loops by 100 %, and their ratio not at all."""
    cached = [10.0 + i % 3 / 100 for i in range(10)] + [20.0 + i % 3 / 100 for i in range(10)]
    assert timing.paired_percent([1.01 * time for time in cached], cached) == pytest.approx((1.0, 1.0))
    with pytest.raises(ValueError, match="zip"):
        timing.paired_percent([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("times", "noise"),
    [
        ([9.0, 11.0, 9.5, 10.5, 10.2, 9.9, 10.0], True),
        ([9.98, 10.02, 9.99, 10.01, 10.02, 9.98, 10.0], True),  # by less than a percent to either side
        ([10.2, 10.3, 10.2, 10.4, 10.3, 10.2, 10.3], False),
        ([9.8, 9.7, 9.8, 9.6, 9.7, 9.8, 9.7], False),  # a gain beyond noise is no noise either
    ],
)
def test_an_overhead_within_noise_is_called_so(monkeypatch, times, noise):
    pytest.importorskip("timm")

    def step_times(trainer, feeds, device, seconds):
        assert [len(targets) for _, targets in map(next, feeds.values())] == [2, 2]
        return {"cached": [10.0] * 7, "loader": times}

    monkeypatch.setattr(training, "step_times", step_times)
    row = bench.measure(TINY, device="cpu", batch_size=2, seconds=0.0, model="test_resnet", stages=())["rows"][0]
    assert row["within_noise"] is noise
    assert row["overhead_interval_percent"] == [pytest.approx(10 * x - 100, abs=0.01) for x in (min(times), max(times))]
    assert ("within noise" in bench.line(row)) == noise


def test_the_rows_are_these_numbers_rounded(monkeypatch):
    """Rates to a tenth, milliseconds to three or four decimals, percents to two; a bfloat16 batch of the given size."""
    pytest.importorskip("timm")
    first = []

    def time_batches(step, seconds, device, label):
        first.append((label, tuple(step().shape)))
        return timing.Timing([1000.06, 1000.06], 1.23456, 2.34567, 7, 11)

    def step_times(trainer, feeds, device, seconds):
        first.extend((name, next(feed)[0]) for name, feed in feeds.items())
        return {"cached": [7.0] * 3, "loader": [8.12345] * 3}

    monkeypatch.setattr(bench, "time_batches", time_batches)
    monkeypatch.setattr(bench, "paired_percent", lambda loader, cached: (16.0494, 16.0516))
    monkeypatch.setattr(training, "step_times", step_times)
    monkeypatch.setattr(bench, "peak_mib", lambda device: 13)
    result = bench.measure(
        TINY, device="cpu", batch_size=5, seconds=0.0, model="test_resnet", stages=["raster", "augment"]
    )
    common = {"recipe": "visualatom", "device": "cpu", "batch_size": 5}
    same = {
        "images_per_second": {"median": 1000.1, "p5": 1000.1, "p95": 1000.1},
        "host_ms": 1.2346,
        "device_ms": 2.3457,
        "peak_mib": 11,
        "batches": 7,
    }
    raster, augment, train = result["rows"]
    assert raster == {**common, "stage": "raster", "image_size": 32, "dtype": "uint8", **same}
    assert augment == {**common, "stage": "augment", "image_size": 224, "dtype": "float32", **same, "augment": "crop"}
    rate = round(1e3 * 5 / 8.12345, 1)
    assert train == {
        **common,
        "stage": "train",
        "image_size": 224,
        "dtype": "bfloat16",
        "images_per_second": {"median": rate, "p5": rate, "p95": rate},
        "host_ms": None,
        "device_ms": None,
        "peak_mib": 13,
        "model": "test_resnet",
        "step_ms": {"median": 8.123, "p5": 8.123, "p95": 8.123},
        "cached_step_ms": {"median": 7.0, "p5": 7.0, "p95": 7.0},
        "overhead_percent": 16.05,
        "overhead_interval_percent": [16.05, 16.05],
        "within_noise": False,
        "augment": "crop",
    }
    assert first[:2] == [("raster", (5, 1, 32, 32)), ("augment", (5, 3, 224, 224))]
    assert [(name, images.dtype, tuple(images.shape)) for name, images in first[2:]] == [
        (name, torch.bfloat16, (5, 3, 224, 224)) for name in ("cached", "loader")
    ]


def test_the_whole_table():
    row = {"stage": "raster", "images_per_second": {"median": 1234.6, "p5": 99.4, "p95": 2000.5}, "peak_mib": 512}
    result = {
        "environment": {"gpu": None, "cpu": "EPYC", "cores": 2, "threads": 4, "numba": "0.68", "torch": "2.14"},
        "rows": [
            row | {"host_ms": 0.12345, "device_ms": None},
            row | {"host_ms": 1.0, "device_ms": 2.0, "cached": True},
            row | {"host_ms": 1.0, "device_ms": 2.0, "stage": "loader", "augment": "deit"},
            row
            | {"host_ms": None, "device_ms": None, "stage": "train", "augment": "crop", "model": "vit"}
            | {"step_ms": {"median": 10.126}, "cached_step_ms": {"median": 9.874}, "within_noise": True}
            | {"overhead_percent": 2.55, "overhead_interval_percent": [-1.06, 6.04]},
        ],
    }
    assert (
        bench.table(result)
        == """\
EPYC, 2 cores, 4 threads, numba 0.68, torch 2.14
stage                    images/s         p5        p95   host ms  device ms  peak MiB
raster                       1235         99       2000     0.123          -       512
raster, kept                 1235         99       2000     1.000      2.000       512
loader, deit                 1235         99       2000     1.000      2.000       512
train                        1235         99       2000         -          -       512
  vit: 10.13 ms a step, 9.87 on one kept batch: +2.5 % (within noise, -1.1 to +6.0 %)"""
    )
    gpu = result["environment"] | {"gpu": "H100", "driver": "580.1", "triton": "3.8", "cupy": "14.2"}
    first, _ = bench.heading(gpu).splitlines()
    assert first == "H100, driver 580.1, triton 3.8, cupy 14.2, torch 2.14"


def keywords_of_loaders(monkeypatch):
    """The keywords of every loader that is made from now on."""
    made = []

    class Loader(gr.DataLoader):
        def __init__(self, recipe, **keywords):
            made.append(keywords)
            super().__init__(recipe, **keywords)

    monkeypatch.setattr("gpurender.loading.data_loader.DataLoader", Loader)
    return made


def test_what_is_measured_of_a_loader(monkeypatch):
    """Shuffled, so that no two batches are alike; what training sees."""
    made = keywords_of_loaders(monkeypatch)
    policy = gr.augment.Crop()
    steps = bench._steps(gr.Renderer(TINY), policy, ["loader"], 3)
    [(stage, step, side, dtype, more)] = list(steps)
    assert (stage, side, dtype, more) == ("loader", 224, "float32", {})
    assert tuple(step().shape) == (3, 3, 224, 224)
    assert made == [
        {"batch_size": 3, "image_size": 224, "augment": policy, "shuffle": True, "device": torch.device("cpu")}
        | {"dtype": torch.float32, "fresh": True}
    ]


def test_what_a_training_step_is_measured_with(monkeypatch):
    pytest.importorskip("timm")
    made = keywords_of_loaders(monkeypatch)
    monkeypatch.setattr(training, "step_times", lambda *given: {"cached": [10.0] * 7, "loader": [10.0] * 7})
    policy, device = gr.augment.Crop(), torch.device("cpu")
    bench.train(TINY, "test_resnet", policy, device=device, batch_size=3, seconds=0.0, name="tiny")
    [keywords] = made
    assert keywords.pop("prefetch_factor", None) is None
    assert keywords == {
        "batch_size": 3, "image_size": 224, "augment": policy, "shuffle": True, "device": device,
        "dtype": torch.bfloat16, "drop_last": True,
    }  # fmt: skip


def test_a_recipe_whose_bitmaps_are_kept_has_two_loader_rows(monkeypatch):
    """All images of the first are kept before it is timed; those of the second are new ones."""
    recipe, drawn = gr.OnePFrac(classes=20, points=300, image_size=32, fill_rate=0.0), []

    def noted(real):
        return lambda *given, **more: drawn.append(len(given[0])) or real(*given, **more)

    monkeypatch.setattr(ifs, "occupancy", noted(ifs.occupancy))
    monkeypatch.setattr(ifs, "masked_occupancy", noted(ifs.masked_occupancy))
    counts = []
    for stage, step, side, _, more in bench._steps(gr.Renderer(recipe), gr.augment.Crop(), ["loader"], 4):
        drawn.clear()
        assert [len(step()) for _ in range(6)] == [4] * 6
        counts.append((stage, side, more, sum(drawn)))
    kept = {"cached": True, "kept_bytes": 20 * 32 * 4}
    assert counts == [("loader", 224, kept, 0), ("loader", 224, {"cached": False}, 24)]


def test_it_is_known_whether_bitmaps_are_kept():
    released = gr.OnePFrac(classes=2, points=300, image_size=32, fill_rate=0.0)
    with torch.device("meta"):  # whatever torch's default is
        assert bench.keeps_bitmaps(gr.Renderer(released))
    assert not bench.keeps_bitmaps(gr.Renderer(released, cache_bytes=0))
    assert not bench.keeps_bitmaps(gr.Renderer(gr.VisualAtom.smallest()))


def test_a_recipe_whose_bitmaps_are_kept_has_two_raster_rows(monkeypatch):
    """Of the first all bitmaps are kept before it is timed; of the second everything is drawn, every time."""
    recipe = gr.OnePFrac(classes=200, points=300, image_size=32, fill_rate=0.0)
    renderer, drawn = gr.Renderer(recipe), []
    real, systems = ifs.occupancy, ifs.render_systems
    monkeypatch.setattr(ifs, "occupancy", lambda *given, **more: drawn.append(len(given[0])) or real(*given, **more))
    monkeypatch.setattr(ifs, "render_systems", lambda *a, **more: drawn.append(len(a[0])) or systems(*a, **more))
    counts = []
    for stage, step, side, dtype, more in bench._steps(renderer, gr.augment.Crop(), ["raster"], 6):
        drawn.clear()
        batches = [step() for _ in range(2 * 4)]
        counts.append((stage, side, dtype, more, sum(drawn)))
        kept = [torch.equal(batches[i], batches[i + 4]) for i in range(4)]
        assert kept == [more["cached"]] * 4
    images = 4 * 6 + 1  # and one that was rendered to see whether anything is kept
    kept = {"cached": True, "kept_bytes": images * 32 * 4}
    assert counts == [("raster", 32, "uint8", kept, 0), ("raster", 32, "uint8", {"cached": False}, 48)]


def test_rows_are_printed_as_they_come(monkeypatch, capsys):
    """Each before the next is measured; in a file or a pipe just as on a terminal."""
    heard = []
    measure = timing.time_batches

    def noted(step, seconds, device, label):
        heard.append((label, capsys.readouterr().out))
        return measure(step, seconds, device, label)

    monkeypatch.setattr(bench, "time_batches", noted)
    monkeypatch.setattr(gr.recipes, "recipe", lambda name: TINY)
    monkeypatch.setattr("gpurender.renderer.as_recipe", lambda name: TINY)
    assert cli.main(["bench", "onepfrac-1k", "--device", "cpu", "--batch-size", "2", "--seconds", "0"]) == 0
    (_, nothing), (_, first), (_, second) = heard
    assert nothing == ""
    assert [line.split()[0] for line in first.splitlines()][1:] == ["stage", "raster"]
    assert second.startswith("augment")
    assert capsys.readouterr().out.startswith("loader")


def test_a_result_so_far_is_handed_on_with_every_row():
    heard = []

    def on_row(so_far):
        heard.append(json.loads(json.dumps(so_far)))

    result = bench.measure(TINY, device="cpu", batch_size=2, seconds=0.0, on_row=on_row)
    assert [len(so_far["rows"]) for so_far in heard] == [1, 2, 3]
    assert heard[-1] == result
    assert [row.get("augment") for row in result["rows"]] == [None, "crop", "crop"]


def test_a_model_that_is_none_is_named(capsys):
    assert cli.main(["bench", "onepfrac-1k", "--batch-size", "1", "--seconds", "0", "--train", "no_such_model"]) in (
        1,
        2,
    )
    assert "no_such_model" in capsys.readouterr().err


def test_results_become_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    out = tmp_path / "rates.png"
    assert cli.main(["bench", "--plot", str(ROOT / "bench/results"), "-o", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096)) > 20
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def result_file(path, *, date="2026-01-02T03:04:05+00:00", commit="a" * 40, rows=1, **changes):
    """A file with a result of so many equal rows."""
    row = {"recipe": "r", "stage": "raster", "device": "cpu", "batch_size": 8, **changes}
    row["images_per_second"] = {"median": 3.0, "p5": 2.0, "p95": 4.0}
    environment = {"cpu": "a CPU", "threads": 2, "gpu": None, "date": date, "commit": commit}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": environment, "rows": [row] * rows}))
    return str(path)


@pytest.mark.parametrize(
    ("results", "names"),
    [
        ([{}], {"r: raster, batch 8"}),
        ([{}, {"batch_size": 9}], {"r: raster, batch 8", "r: raster, batch 9"}),
        (
            [{}, {"date": "2026-01-03T03:04:05+00:00", "commit": "b" * 40}],
            {"r: raster (2026-01-02), batch 8", "r: raster (2026-01-03), batch 8"},
        ),
        ([{}, {"commit": "b" * 40}], {"r: raster (aaaaaaa), batch 8", "r: raster (bbbbbbb), batch 8"}),
        (
            [{}, {"date": "2026-01-02T03:09:05+00:00"}],
            {"r: raster (2026-01-02T03:04), batch 8", "r: raster (2026-01-02T03:09), batch 8"},
        ),
        (
            [{}, {"date": "2026-01-03T03:04:05+00:00"}, {"date": "2026-01-03T04:04:05+00:00"}],
            {f"r: raster (2026-01-0{minute}), batch 8" for minute in ("2T03:04", "3T03:04", "3T04:04")},
        ),
        ([{}, {"commit": None}], {"r: raster (aaaaaaa), batch 8", "r: raster (no commit), batch 8"}),
        ([{"rows": 2}], {"r: raster (0, row 1), batch 8", "r: raster (0, row 2), batch 8"}),
        ([{}, {}], {"r: raster (0, row 1), batch 8", "r: raster (1, row 1), batch 8"}),
    ],
)
def test_bars_of_one_name_get_what_tells_them_apart(tmp_path, monkeypatch, results, names):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    drawn = []
    monkeypatch.setattr(plot, "_bars", lambda axes, rows: drawn.extend(plot._name(row) for row in rows))
    paths = [result_file(tmp_path / f"{i}.json", **changes) for i, changes in enumerate(results)]
    count = plot.plot([*paths, paths[0], str(tmp_path)], str(tmp_path / "out.png"))  # a file named twice counts once
    assert len(drawn) == count == len(names)
    assert set(drawn) == names


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    drawn = []
    monkeypatch.setattr(plot, "_bars", lambda axes, rows: drawn.extend(plot._name(row) for row in rows))
    plot.plot([result_file(tmp_path / place / "r.json") for place in ("a", "b")], str(tmp_path / "out.png"))
    assert len(set(drawn)) == 2


def test_no_two_bars_of_the_recorded_results_have_one_name(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    drawn = []
    monkeypatch.setattr(plot, "_bars", lambda axes, rows: drawn.append([plot._name(row) for row in rows]))
    plot.plot([str(ROOT / "bench/results")], str(tmp_path / "out.png"))
    for panel in drawn:
        assert len(set(panel)) == len(panel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "nowhere.json"], "/nowhere.json is not a bench result: No such file or directory\n"),
        (["--plot", "{empty}"], "without result files"),
        (["--plot", "{wrong}"], "is not a bench result"),
        (["--plot", "{results}", "-o", "out.txt"], "output must end in .png"),
        (["--plot", "{results}", "-o", "nowhere/out.png"], "nowhere/out.png"),
        (
            ["r.json", "--plot", "{results}"],
            "RECIPE must be left out with --plot, which measures nothing, got 'r.json'",
        ),
        (["--plot", "{results}", "--json", "out.json"], "--json must be left out with --plot"),
        (["r.json", "-o", "out.png"], "-o must be given together with --plot"),
        ([], "RECIPE is missing: give a preset's name"),
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


def test_a_model_of_fixed_input_size_is_made_for_the_images():
    """A ViT of 224 pixels has as many position embeddings, unless timm is told another size."""
    pytest.importorskip("timm")
    trainer = training.Trainer("vit_tiny_patch16_224", classes=3, image_size=32, device=torch.device("cpu"))
    assert trainer.step(torch.zeros(2, 3, 32, 32), torch.tensor([0, 2])).isfinite()
    trainer = training.Trainer("test_resnet", classes=3, image_size=32, device=torch.device("cpu"))
    assert trainer.step(torch.zeros(2, 3, 32, 32), torch.tensor([0, 2])).isfinite()


# ----------------------------------------------------------------------------------------------- by a clock that is set


@pytest.fixture
def now(monkeypatch):
    """Seconds, which tests add to."""
    seconds = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
    return seconds


@pytest.fixture
def bars(monkeypatch):
    made = Bars()
    made.n, made.shown, made.total = 0, [], 2.1
    made.refresh = lambda: made.shown.append(round(made.n, 6))
    monkeypatch.setattr(timing, "progress", made)
    return made


def test_a_cpu_is_timed_batch_by_batch(now, bars, monkeypatch):
    steps = iter([0.5, 0.25, 1.0, 0.25, 0.5, 0.5])  # the first warms up
    monkeypatch.setattr(timing, "peak_mib", lambda device: 7)

    def step():
        now[0] += next(steps)
        return np.zeros(6)

    found = timing.time_batches(step, 0.0, torch.device("cpu"), "raster")
    assert found == timing.Timing([24.0, 6.0, 24.0, 12.0, 12.0], 500.0, None, 5, 7)


def test_the_host_s_time_on_a_gpu_is_that_of_a_batch(clock, now):
    def step():
        now[0] += 0.25
        return np.zeros(6)

    assert timing.time_batches(step, 0.0, torch.device("cpu"), "raster").host_ms == 250.0


@pytest.mark.parametrize(("took", "times"), [(0.5, 5), (0.75, 5), (0.375, 6), (0.25, 9)])
def test_measuring_ends_by_time_and_not_before_five(now, bars, times, took):
    for _ in timing.until(2.06, "raster"):
        now[0] += took
    assert len(bars.shown) == times
    assert bars.shown == pytest.approx([min(2.1, took * (i + 1)) for i in range(times)])
    [made] = bars.made
    assert (made["total"], made["desc"], made["unit"]) == (2.1, "raster", "s")
    assert made["bar_format"] == "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"


def test_memory_is_told_in_mib(monkeypatch):
    monkeypatch.setattr(timing.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=(who == 0) * 3000))
    assert timing.peak_mib(torch.device("cpu")) == 2
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (device.index + 1) * 3_000_000)
    assert timing.peak_mib(torch.device("cuda", 1)) == 5


def test_feeds_are_warmed_up_and_measured_together(monkeypatch):
    heard = []
    monkeypatch.setattr(training, "warm_up", lambda step, seconds, device, label: heard.append((label, seconds)) or 1)
    monkeypatch.setattr(training, "until", lambda seconds, label: heard.append((label, seconds)) or iter(()))
    training.step_times(None, {"cached": iter(()), "loader": iter(())}, torch.device("cpu"), 1.5)
    assert heard == [("train, cached", 1.5), ("train, loader", 1.5), ("train", 3.0)]


def test_a_step_on_a_cpu_is_told_in_milliseconds(now):
    class Trainer:
        def step(self, images, targets):
            now[0] += 0.125

    assert training._window(Trainer(), iter([(0, 0)]), torch.device("cpu")) == 125.0


# ------------------------------------------------------------------------------------------------------------- trainers


@pytest.mark.parametrize("gpu", [False, True])
def test_a_trainer_is_timms_model_of_seed_0_under_adamw(monkeypatch, gpu):
    timm = pytest.importorskip("timm")
    made, adamw = [], torch.optim.AdamW
    monkeypatch.setattr(devices, "on_gpu", lambda device: gpu)
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda given, **more: made.append(more) or adamw(given, **{**more, "fused": False})
    )
    torch.manual_seed(5)
    trainer = training.Trainer("test_resnet", classes=3, image_size=32, device=torch.device("cpu"))
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", num_classes=3)
    assert torch.equal(trainer._network.fc.weight, theirs.fc.weight)
    assert trainer._network.training
    assert made == [{"lr": 1e-4, "fused": gpu}]


def test_a_trainer_takes_steps_by_its_loss_in_bfloat16(monkeypatch):
    pytest.importorskip("timm")
    seen, losses = [], []

    class Network(torch.nn.Linear):
        def forward(self, x):
            seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
            return torch.nn.functional.linear(x, self.weight.float(), self.bias)

    class Loss(torch.nn.Module):
        def forward(self, outputs, targets):
            losses.append(targets)
            return outputs.float().sum()

    trainer = training.Trainer("test_resnet", classes=3, image_size=32, device=torch.device("cpu"), loss=Loss())
    trainer._network = Network(2, 1, bias=False)
    trainer._optimizer = torch.optim.SGD(trainer._network.parameters(), lr=1.0)
    begun = trainer._network.weight.detach().clone()
    for _ in range(2):  # each by its own gradient, which is 1
        loss = trainer.step(torch.ones(1, 2), torch.tensor([1]))
    torch.testing.assert_close(trainer._network.weight.detach(), begun - 2.0)
    assert loss.item() == pytest.approx((begun - 1.0).sum().item(), abs=0.05)
    assert seen == [torch.bfloat16] * 2
    assert len(losses) == 2


def test_a_model_that_timm_does_not_describe_is_made_as_it_is(monkeypatch):
    timm = pytest.importorskip("timm")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: None)
    assert training.Trainer("test_resnet", classes=3, image_size=32, device=torch.device("cpu"))._loss


def test_without_timm_its_installation_is_named(monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None if name == "timm" else name)
    with pytest.raises(RuntimeError, match=r"^training needs timm: pip install 'gpurender\[train\]'$"):
        training.require_timm("test_resnet")


# ------------------------------------------------------------------------------------------------------------ measuring


def test_a_wrong_model_is_refused_before_anything_is_measured(monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr(bench, "_steps", None)
    with pytest.raises(ValueError, match=r"^model must be one of timm\.list_models\(\), got 'none'"):
        bench.measure(TINY, device="cpu", model="none")


def test_a_recipe_s_name_is_what_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "_steps", lambda *_: iter([("raster", None, 32, "uint8", {})]))
    monkeypatch.setattr(bench, "time_batches", lambda *_: timing.Timing([1.0], 1.0, None, 1, 1))
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    for given, name in (
        (TINY, "visualatom"), (TINY.to_json(), "visualatom"), (str(path), str(path)), (path, str(path)),
        ("onepfrac-1k", "onepfrac-1k"), (json.loads(TINY.to_json()), "visualatom"),
    ):  # fmt: skip
        assert bench.measure(given, device="cpu")["rows"][0]["recipe"] == name


def test_what_is_timed_on_a_gpu_is_drawn_in_half_precision(monkeypatch):
    made, renderer = [], gr.Renderer(TINY)
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    monkeypatch.setattr(bench, "keeps_bitmaps", lambda renderer: False)
    loader = "gpurender.loading.data_loader.DataLoader"
    monkeypatch.setattr(loader, lambda recipe, **more: made.append(more) or iter(()))
    steps = bench._steps(renderer, None, bench.STAGES, 3)
    found = [(stage, side, dtype, more) for stage, _, side, dtype, more in steps]
    anew = {"cached": False}
    assert found == [("raster", 32, "uint8", anew), ("augment", 224, "float16", {}), ("loader", 224, "float16", anew)]
    assert made[0]["dtype"] == torch.float16


def test_a_stage_is_one_of_three():
    with pytest.raises(ValueError, match=r"^stages must be one of 'raster', 'augment', 'loader', got 'train'$"):
        bench.measure(TINY, device="cpu", stages=["raster", "train"])


def test_indices_to_measure_are_those_of_seed_0(monkeypatch):
    asked, real = [], shuffle.addresses

    def addresses(cursor, *given, **more):
        asked.append((cursor.tolist(), given, more))
        return real(cursor, *given, **more)

    monkeypatch.setattr(shuffle, "addresses", addresses)
    indices = bench.index_batches(TINY, torch.device("cpu"), 5)
    with torch.device("meta"):  # whatever torch's default is
        found = [next(indices) for _ in range(4)]
    assert {(part.dtype, part.device.type) for part in found} == {(torch.int64, "cpu")}
    assert [cursor for cursor, *_ in asked] == [[0, 0], [0, 5], [0, 10], [1, 0]]
    assert {(given, tuple(more.items())) for _, given, more in asked} == {
        ((5,), (("length", 12), ("seed", 0), ("instances", 4), ("shuffle", True)))
    }


@pytest.mark.parametrize(("most", "batches"), [(4096, 5), (20, 5), (19, 5), (16, 4), (13, 4)])
def test_what_a_loader_keeps_is_kept_before_it_is_timed(monkeypatch, most, batches):
    """All of 20 images, or as many as are kept at most, in batches of four."""
    recipe, taken = gr.OnePFrac(classes=20, points=300, image_size=32, fill_rate=0.0), []
    assert bench.KEPT_MOST == 4096
    monkeypatch.setattr(bench, "KEPT_MOST", most)
    monkeypatch.setattr(bench, "endless", lambda loader: iter(lambda: taken.append(4) or (torch.zeros(4), 0), None))
    steps = bench._steps(gr.Renderer(recipe), gr.augment.Crop(), ["loader"], 4)
    next(steps)
    assert len(taken) == batches
    next(steps)
    assert len(taken) == batches


@pytest.mark.parametrize(("batch_size", "whole"), [(12, True), (13, False)])
@pytest.mark.parametrize("gpu", [False, True])
def test_a_training_step_s_batches_are_whole_where_there_are_enough(monkeypatch, batch_size, whole, gpu):
    """TINY has twelve images."""
    reset, made = [], []
    monkeypatch.setattr(devices, "on_gpu", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(bench, "peak_mib", lambda device: 3)
    monkeypatch.setattr(training, "Trainer", lambda *given, **more: made.append((given, more)))
    monkeypatch.setattr(training, "step_times", lambda *given: {"cached": [10.0] * 7, "loader": [20.0] * 7})
    batch, loaders = (torch.zeros(4), torch.zeros(4)), []
    monkeypatch.setattr(
        "gpurender.loading.data_loader.DataLoader", lambda recipe, **more: loaders.append(more) or [batch]
    )
    where = torch.device("cpu")
    row = bench.train(
        TINY, "m", gr.augment.Crop(), device=where, batch_size=batch_size, seconds=0.0, name="n", prefetch_factor=3
    )
    assert (row["images_per_second"]["median"], row["overhead_percent"]) == (200.0, 100.0)
    assert (loaders[0]["drop_last"], loaders[0]["prefetch_factor"]) == (whole, 3)
    assert reset == [where] * gpu
    [(given, more)] = made
    assert given == ("m",)
    assert isinstance(more.pop("loss"), torch.nn.CrossEntropyLoss)
    assert more == {"classes": 3, "image_size": 224, "device": where}
