"""Leases: one holder, taken over when it has ended, whatever the clocks say."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gpurender.search import leases
from gpurender.search.leases import is_stale, leased

HOLD = """
import sys, time, pathlib
from gpurender.search.leases import claimed
lease = claimed(pathlib.Path(sys.argv[1]), 60.0)
print(lease is not None, flush=True)
time.sleep(60)
"""


def foreign(path, **changes):
    """Write the lease of a process on another machine."""
    path.write_text(json.dumps({"host": "elsewhere", "space": "another boot", "pid": 1, "began": "1", **changes}))


def test_one_process_holds_a_lease(tmp_path):
    path = tmp_path / "job"
    with leased(path, 60.0) as first:
        assert first.held()
        with leased(path, 60.0) as second:
            assert second is None
        assert first.held()
        assert not is_stale(path, 60.0)
    assert not path.exists()
    assert os.listdir(tmp_path) == []
    with leased(path, 60.0) as third:
        assert third.held()


def test_a_block_that_fails_gives_the_lease_back(tmp_path):
    with pytest.raises(KeyboardInterrupt), leased(tmp_path / "job", 60.0):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path, root):
    path = tmp_path / "job"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(root)})  # fmt: skip
    try:
        assert process.stdout.readline() == "True\n"
        assert not is_stale(path, 60.0)
        with leased(path, 60.0) as lease:
            assert lease is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_stale(path, 60.0)
    with leased(path, 60.0) as lease:
        assert lease.held()
    assert os.listdir(tmp_path) == []


def test_the_number_of_an_ended_process_may_be_another_s(tmp_path):
    """A process of the same number that began at another time is not the holder."""
    own = leases._identity()
    (tmp_path / "job").write_text(json.dumps(own))
    assert not is_stale(tmp_path / "job", 60.0)
    (tmp_path / "job").write_text(json.dumps({**own, "began": "1"}))
    assert is_stale(tmp_path / "job", 60.0)


@pytest.mark.parametrize("pid", [..., None, "self", 0.5])
def test_a_lease_of_no_process_is_stale(tmp_path, pid):
    """A damaged one, or one that was written by hand, stops nobody."""
    own = leases._identity()
    if pid is ...:
        del own["pid"]
    else:
        own["pid"] = pid
    for began in (own["began"], None):
        (tmp_path / "job").write_text(json.dumps({**own, "began": began}))
        assert is_stale(tmp_path / "job", 60.0)


def test_a_zombie_has_ended(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert leases._began(process.pid) is None
    process.wait()
    assert leases._began(process.pid) is None


@pytest.mark.parametrize("age", [30.0, 90.0])
def test_on_another_machine_the_age_decides(tmp_path, age):
    path = tmp_path / "job"
    foreign(path)
    os.utime(path, (time.time() - age,) * 2)
    assert is_stale(path, 60.0) == (age > 60.0)
    with leased(path, 60.0) as lease:
        assert (lease is not None) == (age > 60.0)
    assert [name for name in os.listdir(tmp_path) if name != "job"] == []


def test_the_age_is_by_the_clock_of_the_file_system(tmp_path, monkeypatch):
    """This machine's clock is an hour wrong."""
    path = tmp_path / "job"
    foreign(path)
    for wrong in (-3600.0, 3600.0):
        now = time.time()
        monkeypatch.setattr(time, "time", lambda now=now, wrong=wrong: now + wrong)
        assert not is_stale(path, 60.0)
    assert leases._age(path) < 60.0
    assert leases._age(tmp_path / "none") is None
    assert not is_stale(tmp_path / "none", 60.0)


def test_a_holder_touches_its_lease(tmp_path):
    path = tmp_path / "job"
    with leased(path, 0.2) as lease:
        os.utime(path, (time.time() - 90.0,) * 2)
        for _ in range(200):
            if not is_stale(path, 60.0):
                break
            time.sleep(0.02)
        assert not is_stale(path, 60.0)
        assert lease.held()


def test_who_has_lost_a_lease_leaves_the_new_one_alone(tmp_path):
    path = tmp_path / "job"
    with leased(path, 60.0) as lease:
        os.unlink(path)
        assert not lease.held()
        foreign(path)
        assert not lease.held()
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_a_lease_that_changed_hands_meanwhile_is_put_back(tmp_path, monkeypatch):
    """Between the look at a stale lease and its rename another process takes it over, and is alive."""
    path, real = tmp_path / "job", os.rename
    foreign(path)
    os.utime(path, (time.time() - 90.0,) * 2)

    def late(source, target):
        os.unlink(path)
        foreign(path, pid=2)
        real(source, target)

    monkeypatch.setattr(os, "rename", late)
    with leased(path, 60.0) as lease:
        assert lease is None
    assert json.loads(path.read_text())["pid"] == 2
    assert os.listdir(tmp_path) == ["job"]


def test_a_lease_that_is_being_written_is_held(tmp_path):
    (tmp_path / "job").write_bytes(b"")
    with leased(tmp_path / "job", 60.0) as lease:
        assert lease is None
    for text in ("[]", "{", '"x"'):
        (tmp_path / "job").write_text(text)
        assert not is_stale(tmp_path / "job", 60.0)


def test_a_folder_that_takes_no_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), leased(tmp_path / "none" / "job", 60.0):
        pass
