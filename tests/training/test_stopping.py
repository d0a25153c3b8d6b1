"""Signals: the first is noted, the second ends the process; outside the main thread none is touched."""

import os
import signal
import threading

import pytest

from gpurender.training.stopping import Interrupted, Request


@pytest.fixture
def handlers():
    """Handlers that note what comes, in place of Python's."""
    heard = []
    before = {number: signal.signal(number, lambda n, frame: heard.append(n)) for number in (2, 15)}
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_second_ends(handlers, number):
    own = signal.getsignal(number)
    with Request().watched() as request:
        assert request.number == 0
        assert signal.getsignal(number) != own
        os.kill(os.getpid(), number)
        assert (request.number, handlers) == (number, [])
        assert signal.getsignal(number) is own
        os.kill(os.getpid(), number)
        assert handlers == [number]
    assert signal.getsignal(number) is own


def test_handlers_come_back_whatever_happens(handlers):
    own = signal.getsignal(2), signal.getsignal(15)
    with pytest.raises(KeyError), Request().watched():
        raise KeyError
    assert (signal.getsignal(2), signal.getsignal(15)) == own


def test_a_signal_that_is_ignored_stays_so(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Request().watched():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_in_a_thread_nothing_is_watched(handlers):
    own, found = signal.getsignal(2), []

    def watch():
        with Request().watched() as request:
            found.append((request.number, signal.getsignal(2)))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [(0, own)]


def test_an_interruption_says_what_is_saved():
    error = Interrupted(15, "step 3 is saved")
    assert isinstance(error, KeyboardInterrupt)
    assert (error.number, error.__notes__, error.args) == (15, ["step 3 is saved"], ())
