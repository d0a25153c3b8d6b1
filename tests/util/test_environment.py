"""What a result says it was measured with."""

import importlib.metadata
import os
import shutil
import subprocess

import pytest
import torch

from gpurender.util import environment


def test_a_version_is_that_of_whichever_distribution_is_there(monkeypatch):
    installed = {"cupy-cuda12x": "12.1", "cupy": "9.9", "torch": "2.9"}

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert environment.version("cupy") == "12.1"
    assert environment.version("torch") == "2.9"
    assert environment.version("dali") is None
    del installed["cupy-cuda12x"]
    assert environment.version("cupy") == "9.9"
    installed["cupy-cuda13x"] = "13.3"
    assert environment.version("cupy") == "13.3"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit that the package seems to lie in, and how to call git there."""

    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # whatever this user has set
        monkeypatch.setenv(name, os.devnull)

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *names, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "gpurender/util").mkdir(parents=True)
    (tmp_path / "gpurender/util/environment.py").write_text("")
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "gpurender/util/environment.py"))
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return git


def test_the_commit_is_the_checkouts(checkout, tmp_path):
    commit = checkout("rev-parse", "HEAD")
    assert environment._commit() == commit
    (tmp_path / "notes.txt").write_text("not the package's")
    assert environment._commit() == commit
    (tmp_path / "gpurender/util/environment.py").write_text("changed = True\n")
    assert environment._commit() == f"{commit}+"


def test_an_installed_copy_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "gpurender/util/environment.py"))
    assert environment._commit() is None


def test_a_tool_that_is_missing_fails_or_is_silent_says_nothing():
    assert environment._output(["sh", "-c", "echo ' first '; echo second"]) == "first "
    assert environment._output(["sh", "-c", "echo half; exit 1"]) is None
    assert environment._output(["sh", "-c", "echo; echo"]) is None
    assert environment._output(["no-such-tool-anywhere"]) is None


def test_a_gpu_is_named_and_a_cpu_is_not_one(monkeypatch):
    monkeypatch.setattr(environment, "_output", lambda command: command[0])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"Card of {device}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = environment.environment()
    assert (found["gpu"], found["driver"], found["cuda"]) == (None, None, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = environment.environment(torch.device("cuda", 1))
    assert (found["gpu"], found["driver"], found["cuda"]) == ("Card of cuda:1", "nvidia-smi", "13.0")
    for device in (None, torch.device("cpu")):
        assert environment.environment(device)["gpu"] == "Card of None"
    assert {"torch", "triton", "cupy", "numba"} <= set(found)
