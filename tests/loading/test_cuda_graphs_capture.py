"""A capture by torch: what is asked of it, and that nothing is left behind when it fails. torch.cuda is a model here.

The model has the allocator's rules as torch's source has them: memory goes to a pool from ``capture_begin`` until it is
told to stop, a pool is released once for each capture into it, and doing either once too often is an error.
"""

import collections
import contextlib

import pytest
import torch

from gpurender.loading import cuda_graphs
from gpurender.runtime import devices
from tests.support.replayed_graphs import run

GPU = torch.device("cuda", 0)
INVALID = "operation failed due to a previous error during capture"
LOG = []


class Allocator:
    """What torch's allocator remembers of captures; ``cleans_up``: ``capture_end`` and ``reset`` tell it themselves."""

    def __init__(self, cleans_up):
        self.cleans_up, self.pools = cleans_up, 0
        self.into, self.uses = set(), collections.Counter()

    def pool(self):
        """A new handle."""
        self.pools += 1
        return (0, self.pools)

    def begin(self, pool):
        """From here on memory comes from the pool."""
        assert pool not in self.into
        assert pool not in self.uses or self.uses[pool] > 0, "a pool that no graph uses was captured into again"
        self.into.add(pool)
        self.uses[pool] += 1

    def end(self, index, pool):
        """No longer."""
        assert index == GPU.index
        if pool not in self.into:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.into.remove(pool)

    def release(self, index, pool):
        """A graph less uses the pool."""
        assert index == GPU.index
        self.uses[pool] -= 1
        assert self.uses[pool] >= 0, "released twice"

    @property
    def clean(self):
        """Whether no capture is under way and no pool used by none."""
        return not self.into and not any(self.uses.values())


class Graph:
    """torch.cuda.CUDAGraph over the model, of launches that count on in ``cell``."""

    allocator = cell = launches = made = fails = None

    def __init__(self):
        self.pool, self.ended, self.invalid = None, False, False

    def capture_begin(self, pool=None, capture_error_mode="global"):
        LOG.append(f"begin {capture_error_mode}")
        self.before = self.cell.clone()
        self.allocator.begin(pool)
        self.pool = pool
        if Graph.fails == "begin":
            raise RuntimeError("cudaStreamBeginCapture")

    def capture_end(self):
        LOG.append("end")
        if self.ended or Graph.fails == "begin":
            raise RuntimeError("not capturing")
        self.cell.copy_(self.before)  # a capture runs nothing
        if Graph.fails == "end" and not self.allocator.cleans_up:
            raise RuntimeError(INVALID)
        self.allocator.end(GPU.index, self.pool)
        if Graph.fails == "end":
            raise RuntimeError(INVALID)
        self.ended, self.tensors = True, self.made[-1]

    def reset(self):
        if self.pool is not None and (self.ended or self.allocator.cleans_up):
            if self.pool in self.allocator.into:
                self.allocator.end(GPU.index, self.pool)
            self.allocator.release(GPU.index, self.pool)
            self.pool, self.ended = None, False

    def replay(self):
        for old, new in zip(self.tensors, Graph.launches(), strict=True):
            old.copy_(new)


class Generator:
    """The GPU's random number generator, of which a capture makes use."""

    def __init__(self):
        self.state = "capturing"

    def clone_state(self):
        return "the same"

    def graphsafe_set_state(self, state):
        self.state = state


@pytest.fixture(params=[False, True], ids=["torch that leaves it", "torch that cleans up"])
def cuda(request, monkeypatch):
    """The model, a cell of memory and launches that count on in it."""
    LOG.clear()
    allocator, cell, made = Allocator(request.param), torch.zeros(1, dtype=torch.int64), []

    def launches():
        tensors = cell.clone(), cell * 2, cell * 3
        made.append(tensors)
        cell.add_(1)
        return tensors

    for name, value in {"allocator": allocator, "cell": cell, "launches": staticmethod(launches), "made": made}.items():
        monkeypatch.setattr(Graph, name, value)
    monkeypatch.setattr(Graph, "fails", None)
    monkeypatch.setattr(devices, "on_gpu", lambda device: True)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", allocator.pool)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "own")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: LOG.append(stream) or contextlib.nullcontext())
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: LOG.append(name))
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(),))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", allocator.end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", allocator.release, raising=False)
    return allocator, cell, launches


def counted(first, count):
    """What so many runs return."""
    return [(i, 2 * i, 3 * i) for i in range(first, first + count)]


def test_a_capture_waits_for_nothing_and_leaves_the_cache_alone(cuda):
    """And lets other threads call CUDA meanwhile."""
    _, cell, launches = cuda
    assert run(cuda_graphs.GraphCache(GPU), cell, launches, 6) == counted(0, 6)
    assert LOG == ["own", "begin thread_local", "end"]


@pytest.mark.parametrize("where", ["begin", "launches", "end", "launches, so the end"])
def test_a_failed_capture_leaves_nothing_under_way(cuda, monkeypatch, where, caplog):
    allocator, cell, launches = cuda
    monkeypatch.setattr(Graph, "fails", where.split()[-1])

    def failing():
        if where.startswith("launches") and allocator.into:
            raise RuntimeError("operation not permitted when stream is capturing")
        return launches()

    cache = cuda_graphs.GraphCache(GPU)
    with caplog.at_level("INFO", logger="gpurender"):
        assert run(cache, cell, failing, 8) == counted(0, 8)
    assert allocator.clean
    assert (cache._graphs, cache._pool) == ({}, None)
    assert sum(line.startswith("begin") for line in LOG) == 1
    assert "end" in LOG  # the stream does not go on capturing
    assert len(caplog.records) == 1
    said = {"begin": "cudaStreamBeginCapture", "launches": "not permitted when stream is capturing", "end": INVALID}
    assert said[where.partition(",")[0]] in caplog.text
    if not allocator.cleans_up and where != "launches":
        assert torch.cuda.default_generators[0].state == "the same"


def test_a_failed_capture_takes_the_good_ones_along(cuda, monkeypatch):
    allocator, cell, launches = cuda
    cache = cuda_graphs.GraphCache(GPU)
    assert run(cache, cell, launches, 4) == counted(0, 4)
    good = cache._graphs["key"].graph
    assert allocator.uses == {good.pool: 1}
    monkeypatch.setattr(Graph, "fails", "end")
    assert run(cache, cell, launches, 4, key="another") == counted(4, 4)
    assert not cache._graphs
    assert not allocator.into
    good.reset()  # as torch does when nobody has it any more
    assert allocator.clean


def test_a_torch_without_a_way_to_clean_up_goes_on(cuda, monkeypatch):
    _, cell, launches = cuda
    monkeypatch.setattr(Graph, "fails", "end")
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.delattr(torch._C, name)
    assert run(cuda_graphs.GraphCache(GPU), cell, launches, 8) == counted(0, 8)


@pytest.mark.parametrize("lacking", [1, 2])
def test_the_cache_is_emptied_once_where_a_capture_finds_no_memory(cuda, lacking):
    allocator, cell, launches = cuda
    short = [torch.cuda.OutOfMemoryError("CUDA out of memory")] * lacking

    def hungry():
        if allocator.into and short:
            raise short.pop()
        return launches()

    cache = cuda_graphs.GraphCache(GPU)
    assert run(cache, cell, hungry, 8) == counted(0, 8)
    assert [line for line in LOG if line in ("synchronize", "empty_cache")] == ["empty_cache"]
    assert not allocator.into
    assert len(cache._graphs) == (lacking == 1)
    assert sum(allocator.uses.values()) == len(cache._graphs)


def test_ctrl_c_in_a_capture_leaves_nothing_under_way(cuda):
    allocator, cell, launches = cuda
    pressed = []

    def interrupted():
        if allocator.into and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return launches()

    cache = cuda_graphs.GraphCache(GPU)
    assert run(cache, cell, interrupted, cuda_graphs.WARMUP_RUNS) == counted(0, cuda_graphs.WARMUP_RUNS)
    with pytest.raises(KeyboardInterrupt):
        run(cache, cell, interrupted, 1)
    assert allocator.clean
    cell.fill_(2)  # the batch is asked for again
    assert run(cache, cell, interrupted, 4) == counted(2, 4)
    assert list(cache._graphs) == ["key"]


def test_the_private_functions_are_those_of_torch():
    """Where this torch is built with CUDA, it has them, with these arguments."""
    if torch.version.cuda is None:
        pytest.skip("needs a torch that is built with CUDA")
    pytest.importorskip("triton", minversion="3.6", reason="GPUs need Triton 3.6, and so a torch that brings it")
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        said = getattr(torch._C, name).__doc__
        assert said.count("arg") == 2, said
        assert "tuple" in said.lower(), said
    assert torch.Generator.graphsafe_set_state
    assert torch.Generator.clone_state
