"""Locks of a folder that several processes share, and turns."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import pytest

from gpurender.util.folder_lock import LOCK, TURN, alone, shared, turn


def test_a_shared_lock_excludes_only_those_who_want_to_be_alone(tmp_path):
    with shared(tmp_path, "others write") as first, shared(tmp_path, "others write") as second:
        assert (first, second) == (True, True)
        with pytest.raises(RuntimeError, match="others write"), alone(tmp_path, "others write"):
            pass
    assert os.listdir(tmp_path) == []  # the last one has removed the file
    with alone(tmp_path, ""):
        with pytest.raises(RuntimeError, match="one writes"), shared(tmp_path, "one writes"):
            pass
        assert os.listdir(tmp_path) == [LOCK]


def test_the_lock_is_held_until_the_last_one_leaves(tmp_path):
    first, second = shared(tmp_path, ""), shared(tmp_path, "")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.listdir(tmp_path) == [LOCK]
    with pytest.raises(RuntimeError, match="another"), alone(tmp_path, "another"):
        pass
    second.__exit__(None, None, None)
    assert os.listdir(tmp_path) == []


def test_locks_of_other_names_are_other_locks(tmp_path):
    with alone(tmp_path, "", ".a"), alone(tmp_path, "", ".b"), shared(tmp_path, ""):
        assert sorted(os.listdir(tmp_path)) == [".a", ".b", LOCK]
    assert os.listdir(tmp_path) == []


def test_those_who_share_in_turn_are_never_refused(tmp_path):
    """Though each of them holds the lock alone for a moment when it leaves as the last one."""
    entered, failed = [], []

    def work():
        try:
            for _ in range(50):
                with turn(tmp_path):
                    held = shared(tmp_path, "")
                    entered.append(held.__enter__())
                held.__exit__(None, None, None)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed == []
    assert entered == [True] * 300
    assert os.listdir(tmp_path) == []


def test_one_turn_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(30):
            with turn(tmp_path):
                inside.append(1)
                time.sleep(0.001)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert most == [1] * 180
    assert os.listdir(tmp_path) == []


def test_a_killed_process_s_turn_ends(tmp_path, root):
    code = f"""
import os, signal
from gpurender.util.folder_lock import turn
with turn({str(tmp_path)!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, timeout=60, check=False)
    assert os.listdir(tmp_path) == [TURN]
    with turn(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with turn(tmp_path), shared(tmp_path, "") as held, alone(tmp_path, "") as other:
        assert (held, other) == (False, False)
