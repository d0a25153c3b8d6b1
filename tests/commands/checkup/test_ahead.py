"""Compiling ahead of the doctor's trials: when, on what, and that it leaves kernels behind."""

import os
import subprocess
import sys
from unittest import mock

import pytest
import torch

from gpurender.commands.checkup import ahead, examine
from gpurender.runtime import kernel_cache

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of kernels, which is not made yet, on a machine of four cores."""
    monkeypatch.setattr(kernel_cache, "numba_folder", lambda: tmp_path / "kernels")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    return tmp_path / "kernels"


def test_only_where_nothing_is_kept(folder):
    assert ahead.worthwhile()
    folder.mkdir(exist_ok=True)
    assert ahead.worthwhile()
    (folder / "kernel").touch()
    assert not ahead.worthwhile()


def test_only_where_kernels_can_be_kept(folder, monkeypatch):
    monkeypatch.setattr(kernel_cache, "writable", lambda place: False)
    assert not ahead.worthwhile()
    monkeypatch.setattr(kernel_cache, "writable", lambda place: True)
    assert ahead.worthwhile()
    monkeypatch.setattr(kernel_cache, "numba_folder", lambda: None)
    assert not ahead.worthwhile()


def test_only_with_cores_for_it(folder, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6})
    assert not ahead.worthwhile()


@pytest.mark.parametrize(("cores", "processes"), [(4, 4), (8, 8), (9, 8)])
def test_trials_run_some_at_a_time(cores, processes, monkeypatch):
    asked = []
    real = ahead.ThreadPoolExecutor
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(ahead, "ThreadPoolExecutor", lambda count: asked.append(count) or real(count))
    monkeypatch.setattr(ahead, "_run", lambda job: None)
    ahead.compile_ahead(["philox"], [CPU])
    assert asked == [processes]


def test_each_trial_runs_on_the_cpu_and_on_one_gpu_of_a_model(monkeypatch):
    jobs, bars = [], []
    gpus = [torch.device("cuda", i) for i in range(3)]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: "AAB"[gpu.index])
    monkeypatch.setattr(ahead, "_run", jobs.append)
    monkeypatch.setattr(ahead, "progress", lambda **options: bars.append(mock.MagicMock(**options)) or bars[0])
    ahead.compile_ahead(["philox", "warp"], [CPU, *gpus])
    assert sorted(jobs) == [(name, at) for name in ("philox", "warp") for at in ("cpu", "cuda:0", "cuda:2")]
    assert (bars[0].total, bars[0].__enter__().update.call_count) == (6, 6)


def test_a_trial_that_fails_is_left_to_the_examination(monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda words, **options: calls.append((words, options)))
    ahead._run(("warp", "cuda:1"))
    ((words, options),) = calls
    assert words == [sys.executable, "-m", "gpurender.commands.checkup.trials", "warp", "cuda:1"]
    assert options.pop("check") is False
    assert options == dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


def test_a_trial_leaves_its_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    ahead._run(("philox", "cpu"))
    assert list(tmp_path.glob("kernels-*/*.numba"))


@pytest.mark.parametrize("worthwhile", [False, True])
def test_the_examination_compiles_ahead_where_that_is_worthwhile(worthwhile, monkeypatch):
    calls, bars = [], []
    monkeypatch.setattr(examine, "progress", lambda **options: bars.append(mock.MagicMock(**options)) or bars[0])
    monkeypatch.setattr(examine, "TRIALS", dict.fromkeys(("philox", "warp"), lambda device: torch.ones(1)))
    monkeypatch.setattr(ahead, "worthwhile", lambda: worthwhile)
    monkeypatch.setattr(ahead, "compile_ahead", lambda *given: calls.append(given))
    found = examine._tried([CPU])
    assert calls == ([(["philox", "warp"], [CPU])] if worthwhile else [])
    assert [(kernel["kernel"], kernel["available"]) for kernel in found] == [("philox", True), ("warp", True)]
    bar = bars[0].__enter__()
    assert [call[0] for call in bar.method_calls] == ["set_postfix_str", "update"] * 2
    assert [call.args for call in bar.set_postfix_str.mock_calls] == [("philox on cpu",), ("warp on cpu",)]
