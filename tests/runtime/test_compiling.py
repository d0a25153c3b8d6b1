"""The bar of a compilation: only on a terminal, one for kernels that are compiled for one another."""

import io
import sys

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
