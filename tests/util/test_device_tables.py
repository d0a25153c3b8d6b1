"""Tables on a device: how many are kept, and for how long one that a CUDA graph reads."""

import ast
import gc
import weakref

import pytest
import torch

from gpurender.augment import normalise, rand_augment
from gpurender.kernels.augment_params import JitterParams, tables
from gpurender.loading import cuda_graphs
from gpurender.numerics import quantiles, unit_circle
from gpurender.util import device_tables
from tests.support import ROOT
from tests.support.replayed_graphs import counting, run

CPU = torch.device("cpu")
HALF = (0.5, 0.5, 0.5)


def table():
    """The first loader's table of normalisation."""
    return normalise.lookup_table((0.25, 0.5, 0.5), HALF, torch.float32, CPU)


@pytest.fixture
def counter(monkeypatch):
    return counting(monkeypatch)


@pytest.fixture
def few(monkeypatch):
    """Only four tables are kept, and the tables of other tests are forgotten; makes others until all are gone."""
    monkeypatch.setattr(device_tables, "KEPT", 4)
    small = device_tables.on_device(normalise.lookup_table.__wrapped__)
    monkeypatch.setattr(normalise, "lookup_table", small)

    def others():
        for i in range(5):
            small((i / 8, 0.0, 0.0), HALF, torch.float32, CPU)
        gc.collect()

    return others


def test_a_table_is_made_once():
    assert table() is table()
    assert quantiles.table_on_device(CPU, "beta", 0.8) is quantiles.table_on_device(CPU, "beta", 0.8)
    assert unit_circle._table_on_device(CPU) is unit_circle._table_on_device(CPU)


def test_tables_are_not_kept_without_end(few):
    first = weakref.ref(table())
    few()
    assert first() is None


def test_seventy_policies_are_no_reason_to_let_a_table_go():
    """Nor as many types and devices as there are: 64 views ask for a table of a kind each, or two."""
    first = weakref.ref(table())
    for i in range(200):
        normalise.lookup_table((i / 256, 0.0, 0.0), HALF, torch.float32, CPU)
    gc.collect()
    assert first() is not None
    assert first() is table()


def test_what_a_graph_reads_lives_as_long_as_the_graph(few, counter):
    cell, counts = counter
    read = []

    def launches():
        read.append(weakref.ref(table()))
        return counts()

    cache = cuda_graphs.GraphCache(CPU)
    run(cache, cell, launches, cuda_graphs.WARMUP_RUNS + 1)
    assert list(cache._graphs) == ["key"]
    few()
    assert all(reference() is read[0]() is not None for reference in read)
    read_before = read[0]()
    assert any(read_before is tensor for tensor in cache._graphs["key"].tables)
    del read_before
    cache.clear()
    gc.collect()
    assert read[0]() is None


def test_only_the_thread_and_the_time_of_a_capture_count():
    from concurrent.futures import ThreadPoolExecutor

    with device_tables.in_use() as outer:
        with device_tables.in_use() as inner:
            mine = table()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(quantiles.table_on_device, CPU, "normal").result()
        quantiles.table_on_device(CPU, "ratio", 0.5, 2.0)
    quantiles.table_on_device(CPU, "beta", 0.7)
    assert [one is mine for one in inner] == [True]
    assert [one is mine for one in outer] == [True, False]
    assert len(outer) == 2


def test_all_tables_of_policies_are_collected():
    params = JitterParams((0.1, 0.2, 0.3, 0.0), 1.0, 0.0, 0.0)
    parsed = rand_augment.parsed("rand-m9-n2-tweights")
    makes = [
        table, lambda: quantiles.table_on_device(CPU, "normal"), lambda: tables.jitter(params, CPU),
        lambda: tables.levels(parsed.alternatives, CPU), lambda: tables.weights(parsed.weights, CPU),
    ]  # fmt: skip
    for make in makes:
        with device_tables.in_use() as used:
            made = make()
        assert len(used) == 1
        assert used[0] is made


def test_nothing_else_that_lies_on_a_device_is_ever_let_go():
    """A cache with an end, of a function that is given a device, would take tensors away from graphs that read them."""
    bounded = []
    for path in ROOT.glob("gpurender/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any("lru_cache" in ast.unparse(d) for d in node.decorator_list):
                bounded += [f"{path.name}:{node.name}" for a in node.args.args if a.arg == "device"]
    assert not bounded
