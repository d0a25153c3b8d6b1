"""What is measured of a loader: counts, shares, stages; nothing at all unless it is asked for."""

import copy
import threading
import time

import pytest
import torch

import gpurender as gr
from gpurender.loading import watch as module
from gpurender.loading.watch import Watch, stage

RECIPE = gr.Noise(classes=4, instances=8, image_size=16)


def loader(**keywords):
    return gr.DataLoader(RECIPE, **{"batch_size": 5, "image_size": 16, "augment": "crop", "device": "cpu", **keywords})


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_off_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(Watch, "__init__", None)
    monkeypatch.setattr(Watch, "handed_out", None)
    feed = loader()
    assert feed.measured is False
    assert len(list(feed)) == 7
    assert stage(None, "x") is module.NOTHING
    with pytest.raises(RuntimeError, match=r"^stats measures nothing unless loader.measured = True was set before$"):
        feed.stats()


@pytest.mark.parametrize("prefetch_factor", [0, 2])
@pytest.mark.parametrize("recipe", [RECIPE, gr.Mixture({RECIPE: 1, gr.Noise(classes=2, image_size=16): 1})])
def test_batches_images_and_stages_are_counted(recipe, prefetch_factor):
    feed = gr.DataLoader(recipe, 5, image_size=16, augment="deit", device="cpu", prefetch_factor=prefetch_factor)
    next(iter(feed))
    feed.measured = True
    for _ in feed:
        pass
    found = feed.stats()
    assert (found["batches"], found["images"], found["clock"]) == (7, len(recipe), "host")
    assert found["images_per_second"] == pytest.approx(len(recipe) / found["seconds"])
    assert 0.0 < found["wait_share"] <= 1.0
    assert 0.0 <= found["queue_depth"] <= prefetch_factor
    assert set(found["stage_ms"]) == {"batch", "parameters", "canvases", "augmentation", "last launches"}
    if not prefetch_factor:  # else a batch was under way when measuring began
        assert sum(found["stage_ms"].values()) <= 2.001 * found["stage_ms"]["batch"]
    again = feed.stats()
    assert (again["batches"], again["images"], again["stage_ms"], again["queue_depth"]) == (0, 0, {}, 0.0)
    feed.measured = False
    assert len(list(feed)) == 7
    with pytest.raises(RuntimeError):
        feed.stats()


def test_measuring_is_a_switch_that_is_set_once():
    feed = loader()
    feed.measured = True
    next(iter(feed))
    feed.measured = True
    assert feed.stats()["batches"] == 1
    assert copy.copy(feed).measured is False
    with pytest.raises(TypeError, match=r"^measured must be True or False, got 1$"):
        feed.measured = 1


def test_the_batches_are_the_same_ones():
    plain, watched = loader(shuffle=True), loader(shuffle=True)
    watched.measured = True
    for one, other in zip(plain, watched, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_report_on_a_clock_by_hand(clock):
    watch = Watch(torch.device("cpu"))
    for _ in range(2):
        with stage(watch, "wait"):
            clock[0] += 1.0
            with stage(watch, "batch"):
                clock[0] += 0.5
        clock[0] += 3.5
        watch.handed_out(8, 3)
    watch.handed_out(4, 0)
    clock[0] += 2.0
    assert watch.report() == {
        "batches": 3, "images": 20, "seconds": 12.0, "images_per_second": 20 / 12, "wait_share": 3.0 / 12,
        "queue_depth": 2.0, "stage_ms": {"batch": pytest.approx(1000 / 3)}, "clock": "host",
    }  # fmt: skip
    clock[0] += 0.25
    with stage(watch, "wait"):
        clock[0] += 0.75
    assert watch.report()["wait_share"] == 0.75


def test_a_stage_that_fails_is_measured_too(clock):
    watch = Watch(torch.device("cpu"))

    def fails():
        with stage(watch, "batch"):
            clock[0] += 2.0
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert watch.report()["stage_ms"] == {"batch": 2000.0}


def test_stages_are_ranges_of_the_profiler():
    feed = loader()
    feed.measured = True
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        next(iter(feed))
    names = {event.key for event in seen.key_averages() if event.key.startswith("gpurender: ")}
    assert names == {
        f"gpurender: {name}" for name in ("wait", "batch", "parameters", "canvases", "augmentation", "last launches")
    }


@pytest.mark.parametrize("said", [True, False])
def test_a_range_is_made_only_while_a_profiler_runs(monkeypatch, said):
    """Or if torch does not say so."""
    if not said:
        monkeypatch.delattr(torch.autograd.profiler, "_is_profiler_enabled")
    made, plain = [], module.record_function
    monkeypatch.setattr(module, "record_function", lambda name: made.append(name) or plain(name))
    watch = Watch(torch.device("cpu"))
    with stage(watch, "batch"):
        pass
    assert made == ([] if said else ["gpurender: batch"])
    if said:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]), stage(watch, "batch"):
            pass
        assert made == ["gpurender: batch"]


def test_what_is_not_reported_takes_no_memory():
    watch = Watch(torch.device("cpu"))
    for _ in range(10 * module.UNREAD + 3):
        with stage(watch, "batch"):
            pass
        watch.handed_out(1, 0)
    assert len(watch.unread["batch"]) == 3
    assert watch.report()["batches"] == 10 * module.UNREAD + 3
    assert not watch.unread["batch"]


def test_threads_that_measure_and_one_that_reports_lose_nothing(clock):
    """Every stage takes a second, which no report may count twice."""
    watch, rounds, found = Watch(torch.device("cpu")), 200, []

    def measure():
        for _ in range(rounds):
            watch.unread["batch"].append(1.0)
            watch.handed_out(1, 0)

    threads = [threading.Thread(target=measure) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found.append(watch.report())
    for thread in threads:
        thread.join()
    found.append(watch.report())
    seconds = sum(each["stage_ms"].get("batch", 0.0) / 1e3 * max(1, each["batches"]) for each in found)
    assert seconds == pytest.approx(4 * rounds)


class Event:
    """An event of a GPU whose time is set by hand; it is over up to a given time."""

    now, over, made = 0.0, 1e9, 0

    def __init__(self, enable_timing=False):
        assert enable_timing
        Event.made += 1

    def record(self):
        self.at = Event.now

    def query(self):
        return self.at <= Event.over

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that notes what it is told."""
    log, capturing = [], []
    Event.now, Event.over, Event.made = 0.0, 1e9, 0
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(capturing))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append(f"synchronize {device}"))
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", lambda name: log.append(f"push {name}"))
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: log.append("pop"))
    return log, capturing


def test_on_a_gpu_stages_are_timed_by_events_and_are_ranges_of_nvtx(gpu):
    log, capturing = gpu
    watch = Watch(torch.device("cuda:1"))
    with stage(watch, "batch"):
        Event.now += 0.004
    watch.handed_out(8, 1)
    capturing.append(True)
    with stage(watch, "canvases"):
        Event.now += 1.0
    assert log == ["push gpurender: batch", "pop"]
    found = watch.report()
    assert log[2:] == ["synchronize cuda:1"]
    assert (found["clock"], found["stage_ms"]) == ("events of the GPU", {"batch": pytest.approx(4.0)})
    assert Event.made == 2


def test_on_a_gpu_only_events_that_are_over_are_read_on_the_way(gpu):
    watch = Watch(torch.device("cuda:0"))
    Event.over = 30.0
    for number in range(module.UNREAD):
        assert len(watch._marks) == number  # nothing is read yet
        with stage(watch, "batch"):
            Event.now += 1.0
        watch.handed_out(1, 0)
    assert len(watch._marks) == module.UNREAD - 30
    Event.over = 1e9
    watch.handed_out(1, 0)
    assert len(watch._marks) == module.UNREAD - 30  # the next ones wait for the report
    assert watch.report()["stage_ms"] == {"batch": pytest.approx(1e3 * module.UNREAD / (module.UNREAD + 1))}
