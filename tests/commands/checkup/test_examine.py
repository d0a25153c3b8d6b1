"""What the doctor says first, and what it says to do."""

import importlib.util
import platform
import subprocess

import pytest
import torch

from gpurender.commands.checkup import cache, examine
from gpurender.runtime import devices, free_memory, kernel_cache
from gpurender.util import disk_cache, environment

ON = {"kernel": "philox", "device": "cpu", "implementation": "numba", "available": True, "reason": None}
GPU = {**ON, "device": "cuda:0", "implementation": "triton"}
CARD = {"device": "cuda:0", "name": "NVIDIA H100", "mib": 1}


def report(kernels, gpus=(), threads=2, cuda=("13.0", None), writable=True):
    return {
        "devices": [{"device": "cpu", "name": "a", "cores": 2, "threads": threads}, *gpus],
        "kernels": kernels,
        "cuda": dict(zip(("torch", "driver"), cuda, strict=True)),
        "cache": {"writable": writable},
    }


def off(found, reason="RuntimeError: no luck", **changes):
    return {**found, "available": False, "reason": reason, **changes}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (report([ON]), "CPU (2 threads)"),
        (report([ON], threads=1), "CPU (1 thread)"),
        (report([ON, GPU], [CARD]), "cuda:0 NVIDIA H100, CPU (2 threads)"),
        (report([ON, off(GPU)], [CARD]), "CPU (2 threads)"),
        (report([off(ON), GPU], [CARD]), "cuda:0 NVIDIA H100"),
        (report([ON, off(ON, kernel="image_ops")]), "CPU (2 threads) without image_ops"),
        (report([off(ON), off(GPU)], [CARD]), "nothing"),
    ],
)
def test_the_verdict(found, verdict):
    assert examine._verdict(found) == f"renders on: {verdict}"


NO = "torch sees no CUDA device: "


@pytest.mark.parametrize(
    ("cuda", "visible", "problem", "remedy"),
    [
        (("13.0", None), None, NO + "there is no NVIDIA driver", "install its driver"),
        ((None, None), None, NO + "there is no NVIDIA driver", "a torch that is built with CUDA: pip install"),
        ((None, "550.54"), None, NO + "torch is built without CUDA (the driver is 550.54)", "pip install --force-rein"),
        (("13.0", "550.54"), "", NO + "CUDA_VISIBLE_DEVICES is ''", "unset CUDA_VISIBLE_DEVICES"),
        (("13.0", "550.54"), "7", NO + "CUDA_VISIBLE_DEVICES is '7'", "unset CUDA_VISIBLE_DEVICES"),
        (("13.0", "550.54"), None, NO + "torch's CUDA 13.0 does not start with driver 550.54", "update the driver"),
    ],
)
def test_a_missing_gpu_has_a_remedy(cuda, visible, problem, remedy, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (found,) = examine._problems(report([ON, off(GPU, "torch sees no CUDA device", device="cuda")], cuda=cuda))
    assert found["problem"] == problem
    assert remedy in found["remedy"]


@pytest.mark.parametrize(("cuda", "extra"), [("12.8", "cuda12"), ("13.0", "cuda13")])
def test_a_missing_compiler_has_the_command_that_installs_it(cuda, extra, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    for package, command in {"cupy": f"pip install 'gpurender[{extra}]'", "triton": "pip install triton"}.items():
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, missing=package: None if name == missing else name
        )
        with pytest.raises(RuntimeError) as refused:
            devices.require_compilers()
        reason = f"RuntimeError: {refused.value}"
        found = examine._problems(report([ON, off(GPU, reason), off(GPU, reason, kernel="shuffle")], [CARD]))
        assert found == [{"problem": f"cuda:0: {reason}", "remedy": command}]


def test_other_problems():
    found = examine._problems(report([ON, off(GPU)], [CARD], writable=False))
    assert [one["problem"] for one in found] == [
        "cuda:0: RuntimeError: no luck",
        "the cache cannot be written: every process compiles the kernels again",
    ]
    assert "gpurender doctor --json" in found[0]["remedy"]
    assert "GPURENDER_CACHE_DIR" in found[1]["remedy"]
    assert examine._problems(report([ON, GPU], [CARD])) == []


def test_the_text_begins_with_the_verdict_and_has_each_remedy(monkeypatch):
    def broken(device):
        raise ValueError("no luck")

    monkeypatch.setattr(examine, "TRIALS", {"philox": lambda device: 0, "shuffle": broken})
    monkeypatch.setattr(examine, "driver", lambda: "550.54")
    found = examine.examine()
    lines = examine.table(found).splitlines()
    assert lines[0] == found["verdict"]
    assert lines[0].startswith("renders on: ")
    for one in found["problems"]:
        word = "no GPU: " if "torch sees no CUDA device" in one["problem"] else "problem:"
        assert lines[lines.index(f"{word} {one['problem']}") + 1] == f"remedy:  {one['remedy']}"
    assert "  driver       550.54" in lines
    assert f"  torch        {torch.version.cuda or 'built without CUDA'}" in lines


def test_the_whole_text():
    """Of a machine with a GPU on which one kernel fails."""
    text = examine.table(
        {
            "verdict": "renders on: CPU (4 threads)",
            "problems": [{"problem": "cuda:0: no luck", "remedy": "report it"}],
            "gpurender": "1.2.3",
            "python": "3.12.1",
            "packages": {"torch": "2.14.1", "torchvision": None},
            "cuda": {"torch": "13.0", "driver": None},
            "devices": [{"device": "cpu", "name": "EPYC"}, {"device": "cuda:0", "name": "H100"}],
            "kept": {
                "cpu": {"cache_bytes": 3 << 19, "presets": {"a": 1 << 20, "b": 0}},
                "cuda:0": {"cache_bytes": 1 << 30, "presets": {"a": 434_400_000}},
            },
            "kernels": [ON, GPU, off(GPU, "no luck", kernel="shuffle")],
            "cache": {"folder": "/c", "kernels": None, "bytes": 3_640_000},
        }
    )
    assert (
        text
        == """\
renders on: CPU (4 threads)

problem: cuda:0: no luck
remedy:  report it

gpurender 1.2.3, Python 3.12.1

packages
  torch        2.14.1
  torchvision  -

CUDA
  torch        13.0
  driver       -

devices
  cpu          EPYC
  cuda:0       H100

bitmaps kept, in MiB, of images that repeat (gr.DataLoader's cache_bytes; 0: drawn anew)
  cpu          up to 1.5: a 1, b 0
  cuda:0       up to 1024: a 414

kernels
  philox         cpu      on (numba)
  philox         cuda:0   on (triton)
  shuffle        cuda:0   off: no luck

cache
  searches     /c
  kernels      -
  size         3.6 MB (gpurender doctor --clean-cache removes it)"""
    )


@pytest.mark.parametrize("budget", [1 << 30, 400 << 20, 10 << 20])
def test_the_doctor_says_what_presets_would_keep(budget, monkeypatch):
    """By arithmetic of one bit per pixel, in rows of whole words."""
    monkeypatch.setattr(free_memory, "share", lambda device: budget)
    found = examine._kept(torch.device("cpu"))
    ofdb, onepfrac = 362 * 12 * 4, 512 * 16 * 4
    wanted = {
        "fractaldb-1k": 25 * 1000 * ofdb, "fractaldb-21k": 25 * 21_000 * ofdb, "fractaldb-100k": 25 * 100_000 * ofdb,
        "ofdb-1k": 1000 * ofdb, "ofdb-21k": 21_000 * ofdb, "onepfrac-1k": 1000 * onepfrac,
        "onepfrac-21k": 21_000 * onepfrac,
    }  # fmt: skip
    fitting = {name: bytes if bytes <= budget else 0 for name, bytes in wanted.items()}
    assert found == {"cache_bytes": budget, "presets": fitting}


def test_kernels_that_are_off_together_are_one_line():
    both = [off(GPU, "x", device="cuda"), off(GPU, "x", device="cuda", kernel="shuffle")]
    assert examine._kernel_lines([ON, *both]) == [
        "  philox         cpu      on (numba)",
        "  all            cuda     off: x",
    ]
    both[1]["reason"] = "y"
    assert len(examine._kernel_lines([ON, *both])) == 3


def test_the_driver_is_told_by_nvidia_smi_or_the_kernel(tmp_path, monkeypatch):
    module = tmp_path / "version"
    real = environment.Path
    monkeypatch.setattr(environment, "Path", lambda path: module if "nvidia" in str(path) else real(path))
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert environment.driver() is None
    module.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC 12.2.0\n"
    )
    assert environment.driver() == "550.54.15"
    told = subprocess.CompletedProcess([], 0, "580.65.06\n580.65.06\n", "")
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: told)
    assert environment.driver() == "580.65.06"


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, whose kernels draw what ``drawn`` says; what compilers are asked for."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # by PYTORCH_NVML_BASED_CUDA_CHECK it is the count
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: f"Card {gpu.index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (7, (80 + gpu.index) << 20))
    monkeypatch.setattr(devices, "on_gpu", lambda device: device.type == "cuda")
    monkeypatch.setattr(devices, "require_compilers", lambda: asked.append(1))
    monkeypatch.setattr(examine, "_kept", lambda device: {"cache_bytes": 1, "presets": {str(device): 2}})
    return asked


def test_every_kernel_is_tried_on_every_device(gpus, monkeypatch):
    tried = []

    def right(device):
        tried.append(str(device))
        return torch.ones(1)

    def wrong(device):
        return torch.tensor([device.index or 0])  # the second GPU's differs from the CPU's

    monkeypatch.setattr(examine, "TRIALS", {"chaos_game": right, "shuffle": wrong})
    monkeypatch.setattr(examine, "driver", lambda: "580.1")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = examine.examine()
    assert found["devices"][1:] == [
        {"device": "cuda:0", "name": "Card 0", "mib": 80}, {"device": "cuda:1", "name": "Card 1", "mib": 81},
    ]  # fmt: skip
    here = environment.environment()
    assert found["devices"][0] == {
        "device": "cpu", "name": here["cpu"], "cores": here["cores"], "threads": here["threads"],
    }  # fmt: skip
    assert list(found["kept"]) == ["cpu", "cuda:0", "cuda:1"]
    assert found["kept"]["cuda:1"] == {"cache_bytes": 1, "presets": {"cuda:1": 2}}
    on = {"available": True, "reason": None}
    differs = "RuntimeError: it renders something else than the CPU does; please report this"
    assert found["kernels"] == [
        {"kernel": "chaos_game", "device": "cpu", "implementation": "numba", **on},
        {"kernel": "shuffle", "device": "cpu", "implementation": "numba", **on},
        {"kernel": "chaos_game", "device": "cuda:0", "implementation": "cuda", **on},
        {"kernel": "shuffle", "device": "cuda:0", "implementation": "triton", **on},
        {"kernel": "chaos_game", "device": "cuda:1", "implementation": "cuda", **on},
        {"kernel": "shuffle", "device": "cuda:1", "implementation": "triton", "available": False, "reason": differs},
    ]
    assert tried == ["cpu", "cuda:0", "cpu", "cuda:1", "cpu"]
    assert len(gpus) == 4
    assert found["verdict"].startswith("renders on: cuda:0 Card 0, cuda:1 Card 1 without shuffle, CPU (")
    assert [one["problem"] for one in found["problems"]] == [f"cuda:1: {differs}"]
    assert found["cuda"] == {"torch": "13.0", "driver": "580.1"}
    assert found["python"] == platform.python_version()
    assert found["packages"] == {name: environment.version(name) for name in environment.PACKAGES}
    assert list(found)[:2] == ["verdict", "problems"]


def test_without_a_gpu_each_kernel_is_off_for_one_reason(monkeypatch):
    monkeypatch.setattr(examine, "TRIALS", {"chaos_game": lambda device: torch.ones(1)})
    monkeypatch.setattr(examine, "_kept", lambda device: {"cache_bytes": 1, "presets": {}})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    _, off_ = examine.examine()["kernels"]
    assert off_ == {
        "kernel": "chaos_game", "device": "cuda", "implementation": None, "available": False,
        "reason": "torch sees no CUDA device",
    }  # fmt: skip


def test_an_error_of_many_lines_is_told_in_one(gpus, monkeypatch):
    def broken(device):
        raise KeyError("no\n  luck")

    monkeypatch.setattr(examine, "TRIALS", {"warp": broken})
    assert examine._try("warp", torch.device("cpu"))["reason"] == "KeyError: 'no\\n luck'"

    def missing():
        raise RuntimeError("rendering needs\n CuPy")

    monkeypatch.setattr(devices, "require_compilers", missing)
    monkeypatch.setattr(examine, "TRIALS", {"warp": None})  # it is not even tried
    assert examine._try("warp", torch.device("cuda", 0))["reason"] == "RuntimeError: rendering needs CuPy"


@pytest.mark.parametrize(
    ("searches", "kernels", "whole"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_the_cache_is_whole_where_both_folders_can_be_written(monkeypatch, tmp_path, searches, kernels, whole):
    monkeypatch.setattr(disk_cache, "directory", lambda: tmp_path)
    monkeypatch.setattr(kernel_cache, "numba_folder", lambda: None)
    monkeypatch.setattr(kernel_cache, "writable", lambda place: searches if place == tmp_path else kernels)
    monkeypatch.setattr(cache, "size", lambda: 77)
    assert examine._cache() == {"folder": str(tmp_path), "kernels": None, "writable": whole, "bytes": 77}
    monkeypatch.setattr(disk_cache, "directory", lambda: None)
    monkeypatch.setattr(kernel_cache, "numba_folder", lambda: tmp_path / "k")
    found = examine._cache()
    assert (found["folder"], found["kernels"]) == (None, str(tmp_path / "k"))
