"""The share of a training's time spent waiting, by the clock on a CPU and by events on a GPU."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from gpurender.training import journal


def test_a_gpu_s_wait_is_measured_by_events_that_are_read_at_reports_alone(monkeypatch):
    log, clock = [], itertools.count()

    class Event:
        def __init__(self, enable_timing=False):
            self.timed = enable_timing

        def record(self):
            self.at = next(clock)

        def elapsed_time(self, other):
            assert self.timed
            assert other.timed  # torch refuses others
            log.append("read")
            return 100.0 * (other.at - self.at)  # ms

    now = iter([10.0, 12.0, 12.5])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("waited for"))
    monkeypatch.setattr(journal, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    waiting = journal.Waiting(torch.device("cuda", 0))
    assert list(waiting.batches(iter("abc"))) == ["a", "b", "c"]
    assert log == []
    assert waiting.restart() == (2.0, pytest.approx(0.15))  # three waits of 100 ms in two seconds
    assert log == ["waited for", "read", "read", "read"]
    assert waiting.restart() == (0.5, 0.0)  # counted once


def test_a_cpu_s_wait_is_the_time_between_asking_and_getting(monkeypatch):
    now = iter([0.0, 1.0, 1.5, 4.0, 4.25, 5.0, 8.0])
    monkeypatch.setattr(journal, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    waiting = journal.Waiting(torch.device("cpu"))
    assert list(waiting.batches(iter("ab"))) == ["a", "b"]
    assert waiting.restart() == (8.0, pytest.approx(0.75 / 8.0))
