"""The bar of a compilation: only on a terminal, one for kernels that are compiled for one another."""

import importlib.util
import io
import logging
import multiprocessing
import sys
from pathlib import Path

import pytest

from gpurender.runtime import compiling


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Bar:
    def __init__(self):
        self.updates, self.closed = 0, False

    def update(self):
        self.updates += 1

    def close(self):
        self.closed = True


@pytest.mark.parametrize(("stderr", "shown"), [(Terminal(), 2), (io.StringIO(), 0), (None, 0)])
def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch, stderr, shown):
    bars = []
    begun = []
    monkeypatch.setattr(
        compiling, "progress", lambda initial, **keywords: begun.append(initial) or bars.append(Bar()) or bars[-1]
    )
    monkeypatch.setattr(sys, "stderr", stderr)
    compilation = compiling._Compilation()
    for nested in (1, 0):
        for step in [compilation.start] * (1 + nested) + [compilation.end] * (1 + nested):
            step()
    assert len(bars) == shown
    assert begun == [0, 2][:shown]  # the second bar counts on
    assert [bar.updates for bar in bars] == [2, 1][:shown]
    assert all(bar.closed for bar in bars)


def test_a_bar_waits_for_two_seconds_of_compiling_in_all(monkeypatch):
    """And says how many kernels there were, without a line left behind."""
    shown, clock = [], iter([100.0, 101.5, 200.0, 203.0, 300.0, 301.0])
    monkeypatch.setattr(compiling, "progress", lambda **keywords: shown.append(keywords) or Bar())
    monkeypatch.setattr(compiling.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", Terminal())
    compilation = compiling._Compilation()
    for _ in range(3):
        compilation.start()
        compilation.end()
    common = {"desc": "compiling", "leave": False, "bar_format": "{desc}: {n_fmt} kernels", "mininterval": 0}
    assert shown == [{"delay": delay, "initial": i, **common} for i, delay in enumerate((2.0, 0.5, 0.0))]


def test_a_bar_is_that_of_one_compilation(monkeypatch):
    """The next one may have no terminal any more."""
    bars = []
    monkeypatch.setattr(compiling, "progress", lambda **_: bars.append(Bar()) or bars[-1])
    compilation = compiling._Compilation()
    for stderr in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stderr)
        compilation.start()
        compilation.end()
    assert [(bar.updates, bar.closed) for bar in bars] == [(1, True)]


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize(
    ("place", "writable", "said"),
    [
        (
            Path("/kernels"), True,
            "gpurender: compiling the kernels that this needs, once on this machine (up to a minute)...",
        ),
        (
            Path("/kernels"), False,
            "gpurender: compiling kernels (up to a minute), in every process: /kernels cannot be written; "
            "GPURENDER_CACHE_DIR can name a folder",
        ),
        (
            None, False,
            "gpurender: compiling kernels (up to a minute), in every process: there is no folder to keep them; "
            "GPURENDER_CACHE_DIR can name a folder",
        ),
    ],
)  # fmt: skip
def test_it_is_said_where_kernels_are_kept(monkeypatch, caplog, worker, place, writable, said):
    """As a warning, but not by each of many worker processes."""
    spec = importlib.util.find_spec(compiling.__name__)
    fresh = importlib.util.module_from_spec(spec)  # tests/conftest.py replaces the function in the one that is imported
    spec.loader.exec_module(fresh)
    monkeypatch.setattr(fresh.kernel_cache, "writable", lambda found: found == place and writable)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object() if worker else None)
    with caplog.at_level(logging.INFO, logger="gpurender"):
        fresh.announce(place)
        fresh.announce(place)  # once a process
    level = logging.INFO if worker else logging.WARNING
    assert caplog.record_tuples == [("gpurender", level, said)]
