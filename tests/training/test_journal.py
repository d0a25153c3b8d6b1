"""What a training tells; the share of its time spent waiting, by the clock on a CPU and by events on a GPU."""

import itertools
import json
import sys
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


def test_a_share_is_at_most_all_and_nothing_of_no_time(monkeypatch):
    now = iter([0.0, 1.0, 5.0, 3.0, 3.0])
    monkeypatch.setattr(journal, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    waiting = journal.Waiting(torch.device("cpu"))
    next(waiting.batches(iter("a")))
    assert waiting.restart() == (3.0, 1.0)
    assert waiting.restart() == (0.0, 0.0)


# ------------------------------------------------------------------------------------------------------------ reports

REPORT = {"step": 3, "images": 24, "loss": 0.123456, "lr": 1, "images_per_second": 98765.4, "note": "text"}


class Told:
    """Notes every call."""

    def __init__(self, log, **options):
        self.log = log
        log.append(("made", options))

    def __getattr__(self, name):
        return lambda *given, **options: self.log.append((name, *given, options))


@pytest.fixture
def bar(monkeypatch):
    log = []
    monkeypatch.setattr(journal, "progress", lambda **options: Told(log, **options))
    return log


def test_a_report_is_a_line_and_the_bar_shows_two_of_its_numbers(tmp_path, bar):
    told = journal.Journal(tmp_path, 2, 9, True, False)
    told.advance()
    told.report(REPORT)
    told.report(REPORT)
    told.close()
    assert (tmp_path / "metrics.jsonl").read_text() == 2 * (json.dumps(REPORT) + "\n")
    shown = ("set_postfix", {"loss": "0.1235", "images_per_second": "9.877e+04"}, {"refresh": False})
    made = ("made", {"total": 9, "initial": 2, "desc": "train", "unit": "step", "hidden": False})
    assert bar == [made, ("update", {}), shown, shown, ("close", {})]


def test_other_processes_write_nothing_and_show_nothing(tmp_path, bar):
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n')
    told = journal.Journal(tmp_path, 2, 9, False, True)
    told.report(REPORT)
    told.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 5}\n'
    assert bar[0][1]["hidden"] is True
    assert bar[1:] == [("close", {})]


def test_a_bar_may_be_hidden_from_a_process_that_writes(tmp_path, bar):
    told = journal.Journal(tmp_path, 2, 9, True, False, False)
    told.report(REPORT)
    assert bar[0][1]["hidden"] is True
    assert (tmp_path / "metrics.jsonl").exists()


def test_tensorboard_gets_the_numbers_from_the_next_step_on(tmp_path, bar, monkeypatch):
    board = []
    module = SimpleNamespace(SummaryWriter=lambda folder, **options: Told(board, folder=folder, **options))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    told = journal.Journal(tmp_path, 2, 9, True, True)
    told.report(REPORT)
    told.close()
    made = ("made", {"folder": str(tmp_path / "tensorboard"), "purge_step": 3})
    numbers = [(name, REPORT[name]) for name in ("images", "loss", "lr", "images_per_second")]
    assert board == [made, *(("add_scalar", *number, 3, {}) for number in numbers), ("close", {})]


def test_without_tensorboard_its_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RuntimeError, match=r"^--tensorboard needs tensorboard: pip install tensorboard \("):
        journal.Journal(tmp_path, 0, 9, True, True)


def test_lines_of_later_steps_and_torn_ones_are_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1}', "[]", "{}", '{"ste', '{"step": 3}', '{"step": 4}', '{"step": 2}']
    path.write_bytes("\n".join(lines).encode() + b'\n{"step": \xff\0')  # as a power cut leaves it
    journal.Journal(tmp_path, 3, 9, True, False).close()
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n{"step": 2}\n'
