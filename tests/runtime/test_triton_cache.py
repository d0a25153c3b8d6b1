"""Where Triton keeps its kernels: where it wants, unless it cannot."""

import os
import subprocess
import sys

import pytest

from gpurender.runtime import devices, kernel_cache, triton_cache


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of the test's own, a variable of Triton's that is not set, and a process that has not asked yet."""
    monkeypatch.setenv("TRITON_CACHE_DIR", "")  # so that the end of the test restores it
    monkeypatch.delenv("TRITON_CACHE_DIR")
    monkeypatch.delenv("TRITON_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "own"))
    triton_cache.make_usable.cache_clear()
    yield tmp_path
    triton_cache.make_usable.cache_clear()


def asked():
    """What the variable is after a GPU was asked for."""
    devices.require_compilers()
    return os.environ.get("TRITON_CACHE_DIR")


@pytest.fixture(autouse=True)
def _compilers(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


@pytest.mark.parametrize("variable", [None, "TRITON_CACHE_DIR", "TRITON_HOME"])
def test_a_folder_that_can_be_written_is_left_alone(home, monkeypatch, variable):
    if variable is not None:
        monkeypatch.setenv(variable, str(home / "chosen"))
    assert asked() == (str(home / "chosen") if variable == "TRITON_CACHE_DIR" else None)
    assert not (home / "own").exists()


def test_our_guess_is_triton_s(home, root):
    code = """
import os
from triton import knobs
from gpurender.runtime import triton_cache
for name in ("NOTHING", "TRITON_HOME", "TRITON_CACHE_DIR"):
    os.environ[name] = os.path.join(os.environ["HOME"], name)
    assert os.path.normpath(knobs.cache.dir) == str(triton_cache._own()), (name, knobs.cache.dir)
    print(triton_cache._own())
"""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    places = (home / ".triton/cache", home / "TRITON_HOME/.triton/cache", home / "TRITON_CACHE_DIR")
    assert done.stdout.split() == [str(place) for place in places]


def test_another_takes_its_place_and_sees_what_is_there(home, monkeypatch):
    (home / "image").touch()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(home / "image"))  # no folder: nothing can be written in it
    assert asked() == str(home / "own/triton")
    triton_cache.make_usable.cache_clear()
    assert asked() == str(home / "own/triton")
    triton_cache.make_usable.cache_clear()
    (home / "image").unlink()
    (home / "image/KERNEL").mkdir(parents=True)
    (home / "image/KERNEL/k.json").write_text("{}")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(home / "image"))
    writable = triton_cache.kernel_cache.writable
    monkeypatch.setattr(triton_cache.kernel_cache, "writable", lambda place: place.name != "image" and writable(place))
    assert asked() == str(home / "own/triton")
    assert (home / "own/triton/KERNEL/k.json").read_text() == "{}"


def test_a_folder_of_a_process_goes_with_its_maker_alone(tmp_path):
    """A process that is forked, and ends as Python's do, runs what its parent registered for its end."""
    place = tmp_path / "place"
    place.mkdir()
    maker = os.getpid()
    if (child := os.fork()) == 0:
        try:
            kernel_cache._remove(place, maker)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert place.is_dir()
    kernel_cache._remove(place, maker)
    assert not place.exists()


def test_without_any_place_it_is_one_of_the_process(home, root):
    """It goes when the process ends, and what it leads to stays."""
    code = """
import os, sys
from gpurender.util import disk_cache
from gpurender.runtime import kernel_cache, triton_cache
kernel_cache.writable = lambda place: False
triton_cache.make_usable()
place = os.environ["TRITON_CACHE_DIR"]
assert os.path.isfile(os.path.join(place, "KERNEL", "k.json"))
open(os.path.join(place, "new"), "w").close()
print(place)
"""
    (home / "image/KERNEL").mkdir(parents=True)
    (home / "image/KERNEL/k.json").write_text("{}")
    environment = {**os.environ, "PYTHONPATH": str(root), "TRITON_CACHE_DIR": str(home / "image")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert not os.path.exists(done.stdout.strip())
    assert sorted(os.listdir(home / "image/KERNEL")) == ["k.json"]
    assert not (home / "own").exists()
