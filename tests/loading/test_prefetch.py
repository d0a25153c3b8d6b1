"""Prefetching: which stream waits for which, and which batches a thread drops. Streams are recorded."""

import concurrent.futures
import threading
import time

import pytest
import torch

import gpurender as gr
from gpurender.loading import data_loader, prefetch
from gpurender.runtime import devices

LOG = []


class Stream:
    """A stream that writes down what is asked of it."""

    def __init__(self, name):
        self.name = name

    def wait_stream(self, other):
        LOG.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        LOG.append(f"{self.name} waits for {event.name}")


class Event:
    """An event named after its place in the order of events."""

    count = 0
    over = True  # the GPU has come to it

    def query(self):
        return Event.over

    def record(self, stream):
        self.name = f"batch {Event.count}"
        Event.count += 1
        LOG.append(f"{stream.name} records {self.name}")


class Entered:
    """A context that makes a stream, or a device, the current one."""

    current = None

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        self.before, Entered.current = Entered.current, self.stream

    def __exit__(self, *error):
        Entered.current = self.before


@pytest.fixture
def streams(monkeypatch):
    """The log of a loader on a GPU that is none: the consumer asks on its own stream ``side``."""
    LOG.clear()
    Event.count, Event.over, Entered.current = 0, True, Stream("side")
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: made.append(priority) or Stream("own"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Entered.current)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: Stream("default"))
    monkeypatch.setattr(torch.cuda, "stream", Entered)
    monkeypatch.setattr(torch.cuda, "device", lambda device: Entered(Entered.current))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: LOG.append(f"used by {stream.name}"))
    monkeypatch.setattr(data_loader.DataLoader, "_prefetching", prefetching)
    draw = data_loader.DataLoader._render

    def logged(self, step, mixes):
        LOG.append(f"{Entered.current.name} draws {step.first}")
        return draw(self, step, mixes)

    monkeypatch.setattr(data_loader.DataLoader, "_render", logged)
    yield made
    LOG.clear()


def prefetching(self):
    """The loader's on a GPU, wherever its kernels run."""
    if self._prefetcher is None:
        self._prefetcher = prefetch.StreamPrefetcher(self._renderer.device)
    return prefetch.Prefetching(self._prefetcher, self.prefetch_factor, self.timeout)


def tiny(**keywords):
    recipe = gr.VisualAtom(classes=3, instances=2, image_size=32, orbits=(1, 3), quantization=(5, 9))
    return gr.DataLoader(recipe, batch_size=2, image_size=16, device="cpu", prefetch_factor=1, **keywords)


def test_the_next_batch_is_drawn_behind_what_the_consumer_has_enqueued(streams):
    batches = iter(tiny())
    start = ["own waits for side", "own waits for default"]
    next(batches)
    assert [
        *start, "own draws 0", "own records batch 0",
        *start, "own draws 2", "own records batch 1",
        "side waits for batch 0", "used by side", "used by side",
    ] == LOG  # fmt: skip
    LOG.clear()
    next(batches)
    assert [
        *start, "own draws 4", "own records batch 2",
        "side waits for batch 1", "used by side", "used by side",
    ] == LOG  # fmt: skip
    LOG.clear()
    next(batches)
    assert LOG == ["side waits for batch 2", "used by side", "used by side"]
    assert next(batches, None) is None
    assert streams == [0]  # one stream, of the lowest priority


def test_one_stream_serves_all_passes(streams):
    feed = tiny()
    for _ in range(3):
        assert len(list(feed)) == 3
    assert len(streams) == 1


def test_the_batches_are_the_same(streams):
    import copy

    feed = tiny(shuffle=True, augment=gr.augment.Crop())
    drawn = list(feed)
    plain = gr.DataLoader(
        feed._recipe, batch_size=2, image_size=16, device="cpu", shuffle=True, augment=gr.augment.Crop()
    )
    plain._prefetching = lambda: prefetch.Prefetching(None, 0, 0)
    for (images, targets), (others, labels) in zip(drawn, plain, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, labels)
    assert copy.deepcopy(feed)._prefetcher is None


def test_a_batch_that_cannot_be_drawn_ahead_raises_in_its_turn(streams, monkeypatch):
    feed = tiny()
    draw, failing = data_loader.DataLoader._render, [True]

    def sometimes(self, step, mixes):
        if step.first == 2 and failing:
            raise RuntimeError("no memory")
        return draw(self, step, mixes)

    monkeypatch.setattr(data_loader.DataLoader, "_render", sometimes)
    batches = iter(feed)
    first = next(batches)
    assert feed.state_dict()["position"] == 2
    with pytest.raises(RuntimeError, match="no memory"):
        next(batches)
    assert feed.state_dict()["position"] == 2
    failing.clear()
    assert len(list(batches)) == 2
    assert len(first[0]) == 2


def test_a_gpu_that_takes_too_long_is_a_timeout(streams, monkeypatch):
    feed, sleep, slept = tiny(timeout=60), time.sleep, []
    batches, wanted = iter(feed), list(tiny())
    taken = [next(batches)]
    feed.timeout, Event.over = 0.05, False
    monkeypatch.setattr(prefetch.time, "sleep", lambda seconds: slept.append(seconds) or sleep(seconds))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"timed out: no batch after 0\.05 seconds"):
            next(batches)
    assert set(slept) == {0.0005}  # between two looks
    assert feed.state_dict()["position"] == 2
    LOG.clear()
    Event.over = True
    taken.append(next(batches))
    assert "own draws 2" not in LOG  # it is the one that was waited for
    taken += batches
    for (images, targets), (others, labels) in zip(taken, wanted, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, labels)


def test_a_state_loaded_midway_counts(streams):
    """What was drawn ahead belongs to the pass, not to the loader's place."""
    feed = tiny(shuffle=True)
    batches = iter(feed)
    next(batches)
    state = feed.state_dict()
    second = next(batches)
    feed.load_state_dict(state)
    again = next(iter(feed))
    assert torch.equal(second[0], again[0])
    assert not devices.on_gpu(feed._renderer.device)


@pytest.mark.gpu
def test_kept_batches_stay_and_streams_agree_on_the_gpu():
    """A consumer that keeps everything, on a stream of its own, against the CPU's batches."""
    keywords = {"batch_size": 8, "image_size": 64, "shuffle": True, "augment": gr.augment.Crop(), "fresh": True}
    recipe = gr.VisualAtom(classes=20, instances=4, image_size=96, orbits=(1, 30), quantization=(5, 99))
    feed, slow = gr.DataLoader(recipe, device="cuda", **keywords), gr.DataLoader(recipe, device="cpu", **keywords)
    with torch.cuda.stream(torch.cuda.Stream()):
        kept = [batch for _ in range(3) for batch in feed]
        sums = [images.sum() for images, _ in kept]  # read on this stream, while others are drawn
    torch.cuda.synchronize()
    wanted = [batch for _ in range(3) for batch in slow]
    for (images, targets), (others, labels), total in zip(kept, wanted, sums, strict=True):
        assert torch.equal(images.cpu(), others)
        assert torch.equal(targets.cpu(), labels)
        assert torch.equal(total, images.sum())


@pytest.mark.parametrize(
    ("gpu", "keywords", "kind", "depth"),
    [
        (False, {}, None, 0),
        (False, {"timeout": 5}, "thread", 1),  # the consumer could not leave a batch that it renders itself
        (False, {"prefetch_factor": 3}, "thread", 3),
        (False, {"prefetch_factor": 0}, None, 0),
        (False, {"prefetch_factor": 0, "timeout": 5}, "thread", 0),
        (True, {}, "stream", 1),
        (True, {"timeout": 5}, "stream", 1),
        (True, {"prefetch_factor": 0}, "stream", 0),
        (True, {"prefetch_factor": 3}, "stream", 3),
    ],
)
def test_who_prefetches_and_how_many(monkeypatch, gpu, keywords, kind, depth):
    made = []
    monkeypatch.setattr(data_loader, "ThreadPrefetcher", lambda: made.append("thread") or object())
    monkeypatch.setattr(data_loader, "StreamPrefetcher", lambda device: made.append("stream") or object())
    feed = gr.DataLoader("onepfrac-1k", device="cpu", **keywords)
    monkeypatch.setattr(devices, "on_gpu", lambda device: gpu)
    found, again = feed._prefetching(), feed._prefetching()
    assert found == again
    assert (found.prefetcher is None, found.depth, found.timeout) == (kind is None, depth, keywords.get("timeout", 0))
    assert made == ([] if kind is None else [kind])  # once
    monkeypatch.setattr(data_loader.os, "getpid", lambda: -1)  # as a forked child
    assert (feed._prefetching() == found) == (kind is None)
    assert made == ([] if kind is None else [kind] * 2)


# ------------------------------------------------------------------------------------------------------------ threads


def test_a_thread_drops_what_has_not_begun_unless_the_process_has_forked(monkeypatch):
    prefetcher, begun, goes_on = prefetch.ThreadPrefetcher(), threading.Event(), threading.Event()
    first = prefetcher.start(lambda: (begun.set(), goes_on.wait(60)))
    try:
        assert begun.wait(60)
        kept, dropped = prefetcher.start(lambda: None), prefetcher.start(lambda: None)
        prefetcher.drop(dropped)
        prefetcher.drop(prefetch.ThreadHandle(lambda: None, None))  # no thread could be started for it
        monkeypatch.setattr(prefetcher, "_process", -1)  # as a forked child finds it
        prefetcher.drop(kept)
        assert (kept.future.cancelled(), dropped.future.cancelled()) == (False, True)
        monkeypatch.undo()
        prefetcher.stop()  # at once, although a batch has begun
        assert (kept.future.cancelled(), first.future.done()) == (True, False)
    finally:
        goes_on.set()


@pytest.mark.parametrize(("timeout", "waits"), [(0, [0.5, 0.5, 0.5]), (1.2, [0.5, 0.5, 0.2]), (0.3, [0.3])])
def test_a_wait_for_a_thread_looks_up_for_ctrl_c_twice_a_second(monkeypatch, timeout, waits):
    """Of a batch that takes 1.25 seconds of a clock that only waits move."""
    clock, future, asked = [100.0], concurrent.futures.Future(), []

    class Event:
        def set(self):
            pass

        def wait(self, seconds):
            asked.append(round(seconds, 6))
            clock[0] += seconds
            return clock[0] >= 101.25 and (future.done() or future.set_result("batch") or True)

    prefetcher = prefetch.ThreadPrefetcher()
    monkeypatch.setattr(prefetch.threading, "Event", Event)
    monkeypatch.setattr(prefetch.time, "monotonic", lambda: clock[0])
    handle = prefetch.ThreadHandle(lambda: "rendered here", future)
    if timeout:
        with pytest.raises(
            prefetch.BatchTimeoutError, match=rf"no batch after {timeout} seconds \(timeout={timeout}\)$"
        ):
            prefetcher.hand_over(handle, timeout)
    else:
        assert prefetcher.hand_over(handle) == "batch"
    assert asked == waits
