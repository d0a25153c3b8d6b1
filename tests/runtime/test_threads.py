"""How a parallel loop is divided: ranges, threads, and what stops it."""

import collections
import gc
import threading
import weakref

import pytest
import torch

from gpurender.runtime import threads


@pytest.mark.parametrize(
    ("cores", "n", "sizes"),
    [
        (1, 0, [0]),
        (1, 1, [1]),
        (1, 64, [64]),  # one range, as long as it has at most 64 images
        (1, 65, [32, 33]),
        (1, 200, [50] * 4),
        (2, 1, [1]),
        (2, 2, [1, 1]),
        (2, 3, [1] * 3),
        (2, 8, [1] * 8),
        (2, 9, [1] * 7 + [2]),  # four ranges a thread
        (2, 513, [57] * 9),
        (3, 100, [8, 8, 9] * 4),
    ],
)
def test_ranges_are_few_and_equal(monkeypatch, cores, n, sizes):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    found, by, start = [], [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: by.append(thread.name) or start(thread))
    threads.parallel_ranges(n, lambda a, b: found.append((a, b)))
    found.sort()
    assert [b - a for a, b in found] == sizes
    assert [a for a, _ in found] + [n] == [0] + [b for _, b in found]
    assert by == ["gpurender"] * (min(cores, max(n, 1)) - 1)  # the caller is one of the threads


def test_an_event_stops_the_loops_of_its_thread_while_it_says_so(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    stop, done = threading.Event(), []
    with threads.stopped_by(stop):
        threads.parallel_ranges(8, lambda a, b: done.append(a))
        assert sorted(done) == list(range(8))
        stop.set()
        with pytest.raises(threads.StoppedError):
            threads.parallel_ranges(8, lambda a, b: done.append(a))
        assert len(done) == 8
    threads.parallel_ranges(8, lambda a, b: done.append(a))
    assert len(done) == 16


def test_work_that_waits_asks_whether_it_is_wanted():
    stop = threading.Event()
    threads.check_wanted()
    with threads.stopped_by(stop):
        threads.check_wanted()
        stop.set()
        with pytest.raises(threads.StoppedError):
            threads.check_wanted()
    threads.check_wanted()


def test_an_error_holds_nothing_when_it_is_gone():
    """It keeps the frames that it went through; no cycle must keep it, and the images that were computed."""

    class Images:
        pass

    images = Images()
    kept = weakref.ref(images)

    def work(start, stop, images=images):
        raise ValueError("one image")

    gc.disable()
    try:
        with pytest.raises(ValueError, match="one image") as caught:
            threads.parallel_ranges(1, work)
        del images, work, caught
        assert kept() is None
    finally:
        gc.enable()


def test_ctrl_c_between_two_ranges_leaves_no_work(monkeypatch):
    """The other threads take none of the ranges that are left, and the caller waits for them."""
    cleared, done, main = threading.Event(), [], threading.get_ident()

    class Ranges(collections.deque):
        def popleft(self):
            if threading.get_ident() == main:
                raise KeyboardInterrupt
            cleared.wait(5)
            return super().popleft()

        def clear(self):
            super().clear()
            cleared.set()

    monkeypatch.setattr(threads, "deque", Ranges)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        threads.parallel_ranges(100, lambda start, stop: done.append(start))
    assert done == []
