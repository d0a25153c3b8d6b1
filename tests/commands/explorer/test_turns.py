"""Turns at what is kept warm: one at a time, pictures first, and nobody waits for what is not wanted."""

import contextlib
import threading

import pytest

from gpurender.commands.explorer.turns import Turns
from gpurender.runtime import threads

PATIENCE = 120.0  # seconds


def waiting(turns, first, done, name):
    """A thread that waits for its turn."""

    def work():
        with turns.taken(first):
            done.append(name)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_pictures_go_before_sheets():
    turns, done = Turns(), []
    with turns.taken(False):
        others = [waiting(turns, False, done, f"sheet {i}") for i in range(3)]
        others += [waiting(turns, True, done, f"picture {i}") for i in range(2)]
        while turns._before < 2:
            others[0].join(0.001)
        assert done == []
    for thread in others:
        thread.join(PATIENCE)
    assert [name[:5] for name in done] == ["pictu"] * 2 + ["sheet"] * 3
    assert (turns._before, turns._taken) == (0, False)


@pytest.mark.parametrize("first", [False, True])
def test_what_is_not_wanted_waits_no_longer(first):
    turns, stop = Turns(), threading.Event()
    stop.set()
    with turns.taken(True), threads.stopped_by(stop), pytest.raises(threads.StoppedError), turns.taken(first):
        pass
    assert (turns._before, turns._taken) == (0, False)


@pytest.mark.parametrize("first", [False, True])
def test_an_error_gives_the_turn_back(first):
    turns, done = Turns(), []
    with contextlib.suppress(KeyError), turns.taken(first):
        raise KeyError
    waiting(turns, False, done, "next").join(PATIENCE)
    assert done == ["next"]
