"""When a sequence of launches is captured, and what happens when it cannot be."""

import contextlib
import gc

import pytest
import torch

import gpurender as gr
from gpurender.loading import cuda_graphs
from tests.support.replayed_graphs import counting, run

LONG = f"operation not permitted when stream is capturing {list(range(90))}"
CPU = torch.device("cpu")


@pytest.fixture
def counter(monkeypatch):
    return counting(monkeypatch)


def test_runs_follow_each_other_before_and_after_the_capture(counter):
    cell, launches = counter
    cache = cuda_graphs.GraphCache(CPU)
    assert run(cache, cell, launches, 8) == [(i, 2 * i, 3 * i) for i in range(8)]
    graph, tensors, _ = cache._graphs["key"]
    assert graph.replays == 8 - cuda_graphs.WARMUP_RUNS  # the first of them was compared with plain launches
    before = tensors[0].item()
    kept, again = (cache.run("key", launches, lambda: None)[0] for _ in range(2))
    assert (kept.item(), again.item()) == (before + 1, before + 2)  # what was handed out is not written again


def test_the_third_run_of_a_key_is_captured_of_up_to_eight_keys(counter):
    """Each is captured from where it began, and compared with plain launches."""
    cell, launches = counter
    cache, counts = cuda_graphs.GraphCache(CPU), []
    for key in range(10):
        for _ in range(4):
            run(cache, cell, launches, 1, key=key)
            counts.append(len(cache._graphs))
    assert counts == [n for key in range(8) for n in (key, key, key + 1, key + 1)] + [8] * 8
    assert [found.graph.replays for found in cache._graphs.values()] == [2] * 8


def test_each_key_has_its_own_graph(counter):
    cell, launches = counter
    cache = cuda_graphs.GraphCache(CPU)
    run(cache, cell, launches, cuda_graphs.WARMUP_RUNS)
    assert not cache._graphs
    run(cache, cell, launches, 5, key="another")
    assert list(cache._graphs) == ["another"]


def test_a_watch_sees_each_replay_and_the_last_launches_of_every_run(counter, monkeypatch):
    cell, launches = counter
    seen = []

    def stage(watch, name):
        seen.append((watch, name))
        return contextlib.nullcontext()

    monkeypatch.setattr(cuda_graphs, "stage", stage)
    cache = cuda_graphs.GraphCache(CPU)
    for i in range(8):
        cache.run("key", launches, lambda i=i: cell.fill_(i), "watch")
    cache.run(None, launches, lambda: None, "watch")
    replays = 8 - cuda_graphs.WARMUP_RUNS - 1  # the first is that of the capture, which nobody watches
    assert [name for _, name in seen].count("graph") == replays
    assert [name for _, name in seen].count("last launches") == 9
    assert {watch for watch, _ in seen} == {"watch"}


def test_a_last_launch_follows_each_graph_into_new_memory(counter):
    """It is not captured, what it makes is not copied, and it reads what the graph has written."""
    cell, launches = counter
    called, handed_out = [], []

    def begun():
        count, double, _ = launches()

        def last():
            called.append(count + 10 * double)
            return called[-1]

        return double, last

    cache = cuda_graphs.GraphCache(CPU)
    for i in range(8):
        double, images = cache.run("key", begun, lambda i=i: cell.fill_(i))
        assert (double.item(), images.item()) == (2 * i, 21 * i)
        assert any(images is one for one in called)
        handed_out.append((double, images))
    graph, made, _ = cache._graphs["key"]
    assert graph.replays == 8 - cuda_graphs.WARMUP_RUNS
    assert len(called) == 8 + 1  # the graph's first result was compared with the plain launches'
    assert made[0] is not handed_out[-1][0], "a tensor of the graph was handed out"
    assert [(a.item(), b.item()) for a, b in handed_out] == [(2 * i, 21 * i) for i in range(8)]


def test_a_last_launch_that_shows_something_else_refuses_the_graph(counter, monkeypatch):
    cell, launches = counter
    good = cuda_graphs.capture

    def bad(calls, device, pool):
        graph, made = good(calls, device, pool)
        graph.spoil = True
        return graph, made

    def begun():
        count, *_ = launches()
        return (lambda: count * 1,)

    monkeypatch.setattr(cuda_graphs, "capture", bad)
    cache = cuda_graphs.GraphCache(CPU)
    found = [cache.run("key", begun, lambda i=i: cell.fill_(i))[0].item() for i in range(8)]
    assert found == list(range(8))
    assert not cache._graphs


@pytest.mark.parametrize("failure", ["raises", "differs"])
def test_without_a_good_graph_all_goes_on(counter, monkeypatch, failure, caplog):
    cell, launches = counter
    good = cuda_graphs.capture

    def bad(calls, device, pool):
        if failure == "raises":
            calls()  # has moved on before it fails
            raise RuntimeError(LONG)
        graph, tensors = good(calls, device, pool)
        graph.spoil = True
        return graph, tensors

    monkeypatch.setattr(cuda_graphs, "capture", bad)
    cache = cuda_graphs.GraphCache(CPU)
    with caplog.at_level("INFO", logger="gpurender"):
        assert run(cache, cell, launches, 8) == [(i, 2 * i, 3 * i) for i in range(8)]
    assert not cache._graphs
    assert len(caplog.records) == 1
    if failure == "raises":
        assert LONG[:200] in caplog.text
        assert LONG[:201] not in caplog.text


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_no_garbage_is_collected_during_a_capture(monkeypatch, collecting, fails):
    """It may hold another loader's graphs, whose end would end the capture, too."""

    class Graph:
        def capture_begin(self, pool, capture_error_mode):
            seen.append(gc.isenabled())

        def capture_end(self):
            seen.append(gc.isenabled())

        def reset(self):
            pass

    def launches():
        seen.append(gc.isenabled())
        if fails:
            raise RuntimeError("it cannot be captured")
        return (torch.zeros(1, dtype=torch.int64, device="cpu"),)

    seen = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(cuda_graphs, "_failed", [])
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool", raising=False)
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        if fails:
            with pytest.raises(RuntimeError, match="it cannot be captured"):
                cuda_graphs.capture(launches, CPU, "pool")
        else:
            cuda_graphs.capture(launches, CPU, "pool")
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert len(seen) == 3
    assert not any(seen)


def test_a_cpu_captures_nothing(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "capture", lambda *_: pytest.fail("captured"))
    recipe = gr.VisualAtom(classes=3, instances=5, image_size=32, orbits=(1, 3), quantization=(5, 9))
    assert len(list(gr.DataLoader(recipe, batch_size=2, image_size=16, device="cpu"))) == 8


@pytest.mark.gpu
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("family", ["onepfrac", "fractaldb", "visualatom"])
def test_the_gpu_captures_and_draws_the_same(family, fresh):
    from tests.golden import SMALL

    recipe = SMALL[family]()
    keywords = {"batch_size": 4, "image_size": 32, "shuffle": True, "augment": gr.augment.Crop(), "fresh": fresh}
    feed, slow = gr.DataLoader(recipe, device="cuda", **keywords), gr.DataLoader(recipe, device="cpu", **keywords)
    for (images, targets), (others, labels), _ in zip(feed, slow, range(9), strict=False):
        assert torch.equal(images.cpu(), others)
        assert torch.equal(targets.cpu(), labels)
    assert feed._pipeline._graph_cache._graphs, "nothing was captured"


def test_there_are_not_too_many_graphs_and_forgotten_ones_take_their_pool_along(counter):
    cell, launches = counter
    cache = cuda_graphs.GraphCache(CPU)
    keys = range(cuda_graphs.MAX_GRAPHS + 3)
    for key in keys:
        start = cell.item()
        assert run(cache, cell, launches, 4, key) == [(i, 2 * i, 3 * i) for i in range(start, start + 4)]
    assert list(cache._graphs) == list(keys)[: cuda_graphs.MAX_GRAPHS]
    cache.clear()
    assert (cache._graphs, cache._pool) == ({}, None)
    run(cache, cell, launches, 4)
    assert list(cache._graphs) == ["key"]
    start = cell.item()
    assert run(cache, cell, launches, 3, key=None) == [(i, 2 * i, 3 * i) for i in range(start, start + 3)]
    assert list(cache._graphs) == ["key"]


@pytest.mark.gpu
def test_graphs_of_a_users_sampler_whose_batches_grow_on_the_gpu():
    """The memory that the numbers are copied to moves with a larger batch; and there are not too many graphs."""
    recipe = gr.VisualAtom(classes=20, instances=4, image_size=96, orbits=(1, 30), quantization=(5, 99))
    sizes = [2] * 6 + [5] * 6 + [n for n in range(6, 20) for _ in range(4)]
    keywords = {
        "batch_sampler": [[(7 * i + k) % len(recipe) for k in range(size)] for i, size in enumerate(sizes)],
        "image_size": 64, "augment": gr.augment.Crop(),
    }  # fmt: skip
    feed = gr.DataLoader(recipe, device="cuda", **keywords)
    for (images, targets), (others, labels) in zip(feed, gr.DataLoader(recipe, device="cpu", **keywords), strict=True):
        assert torch.equal(images.cpu(), others)
        assert torch.equal(targets.cpu(), labels)
    cache = feed._pipeline._graph_cache
    assert not cache._off, "a capture failed"
    assert len(cache._graphs) <= cuda_graphs.MAX_GRAPHS
