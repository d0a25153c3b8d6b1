"""CuPy can be imported where its own folder cannot be made."""

import os
import subprocess
import sys

import pytest

from gpurender.runtime import cupy_cache


def versions(root, **variables):
    """What a process says that asks for NVRTC's architectures, and the folder that CuPy has then."""
    pytest.importorskip("cupy")
    code = "import os; from gpurender.runtime import cuda; "
    code += "print(cuda.supported_architectures(), os.environ['CUPY_CACHE_DIR'])"
    environment = {**os.environ, "PYTHONPATH": str(root), **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", ["home", "CUPY_CACHE_DIR"])
def test_a_folder_that_cannot_be_made_is_replaced(root, tmp_path, closed):
    (tmp_path / "file").touch()  # nothing can be made below a file, whoever asks
    variables = {"HOME": str(tmp_path / "file"), "CUPY_CACHE_DIR": ""}
    if closed == "CUPY_CACHE_DIR":
        variables = {"HOME": str(tmp_path), "CUPY_CACHE_DIR": str(tmp_path / "file/cupy")}
    done = versions(root, GPURENDER_CACHE_DIR=str(tmp_path / "own"), **variables)
    assert done.returncode == 0, done.stderr
    assert "'sm_90'" in done.stdout
    assert done.stdout.split()[-1] == str(tmp_path / "own/cupy")


def test_a_folder_that_can_be_written_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "chosen"))
    cupy_cache.make_usable.cache_clear()
    cupy_cache.make_usable()
    cupy_cache.make_usable.cache_clear()
    assert os.environ["CUPY_CACHE_DIR"] == str(tmp_path / "chosen")
