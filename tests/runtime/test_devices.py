"""Which device is taken, and what the doctor says of each: with GPUs that are none, whose torch is told to see them."""

import re

import pytest
import torch

from gpurender.commands.checkup import examine
from gpurender.runtime import devices

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    """torch sees two, of which the second is current; whatever is drawn there is drawn on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"Card {getattr(device, 'index', None)}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, (80 + device.index) << 30))
    monkeypatch.setattr(devices, "require_compilers", lambda: None)


@pytest.mark.parametrize(
    ("given", "index"),
    [
        (None, 1),
        ("cuda", 1),
        ("cuda:0", 0),
        ("cuda:1", 1),
        (0, 0),
        (torch.device("cuda"), 1),
        (torch.device("cuda:0"), 0),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_without_a_number_is_the_current_one(given, index):
    assert devices.resolve(given) == torch.device("cuda", index)
    assert devices.on_gpu(devices.resolve(given))


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_refused():
    assert devices.resolve("cpu") == devices.resolve("cpu:0") == CPU
    with pytest.raises(ValueError, match=r"^device must be one of cuda:0 to cuda:1, got 'cuda:2'$"):
        devices.resolve("cuda:2")
    for wrong in ("meta", True, "gpu"):
        with pytest.raises(ValueError, match=r"^device must be 'cpu', 'cuda' or 'cuda:0', 'cuda:1' …, got "):
            devices.resolve(wrong)


def test_without_a_gpu_there_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.resolve() == CPU
    with pytest.raises(ValueError, match=r"^device must be 'cpu' on this machine, .* got 'cuda'$"):
        devices.resolve("cuda")


@pytest.mark.parametrize(
    ("version", "extra"), [("12.8", "cuda12"), ("13.0", "cuda13"), ("130.0", "cuda13"), (None, "cuda13")]
)
def test_the_cupy_to_install_is_that_of_torchs_cuda(monkeypatch, version, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "cupy" else name)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(RuntimeError, match=rf"needs CuPy: pip install 'gpurender\[{extra}\]'"):
        devices.require_compilers()


def test_compilers_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    devices.require_compilers()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "triton" else name)
    with pytest.raises(RuntimeError, match=r"^rendering on a GPU needs Triton: pip install triton "):
        devices.require_compilers()


def same(device):
    return torch.arange(3)


def other(device):
    return torch.arange(3) + (device.index == 1)


def broken(device):
    if device.type == "cuda":
        raise ValueError("no\n  luck")
    return torch.arange(3)


@pytest.mark.usefixtures("two_gpus")
def test_the_doctor_tries_every_kernel_on_every_device(monkeypatch):
    monkeypatch.setattr(examine, "TRIALS", {"philox": same, "chaos_game": other, "visual_atom": broken})
    report = examine.examine()
    assert report["devices"][0]["device"] == "cpu"
    assert report["devices"][1:] == [
        {"device": "cuda:0", "name": "Card 0", "mib": 80 << 10},
        {"device": "cuda:1", "name": "Card 1", "mib": 81 << 10},
    ]
    different = "RuntimeError: it renders something else than the CPU does; please report this"
    found = [
        tuple(kernel[name] for name in ("kernel", "device", "implementation", "reason")) for kernel in report["kernels"]
    ]
    assert found == [
        ("philox", "cpu", "numba", None),
        ("chaos_game", "cpu", "numba", None),
        ("visual_atom", "cpu", "numba", None),
        ("philox", "cuda:0", "triton", None),
        ("chaos_game", "cuda:0", "cuda", None),
        ("visual_atom", "cuda:0", "cuda", "ValueError: no luck"),
        ("philox", "cuda:1", "triton", None),
        ("chaos_game", "cuda:1", "cuda", different),
        ("visual_atom", "cuda:1", "cuda", "ValueError: no luck"),
    ]
    assert [kernel["available"] for kernel in report["kernels"]] == [reason is None for *_, reason in found]
    text = examine.table(report)
    assert re.search(r"(?m)^  cuda:1 +Card 1$", text)
    assert re.search(r"(?m)^  chaos_game +cuda:0 +on \(cuda\)$", text)
    assert re.search(r"(?m)^  visual_atom +cuda:0 +off: ValueError: no luck$", text)


@pytest.mark.usefixtures("two_gpus")
def test_the_doctor_says_what_a_gpu_lacks(monkeypatch):
    def refused():
        raise RuntimeError("needs CuPy")

    monkeypatch.setattr(devices, "require_compilers", refused)
    monkeypatch.setattr(examine, "TRIALS", {"philox": same})
    found = [(kernel["device"], kernel["available"], kernel["reason"]) for kernel in examine.examine()["kernels"]]
    missing = (False, "RuntimeError: needs CuPy")
    assert found == [("cpu", True, None), ("cuda:0", *missing), ("cuda:1", *missing)]


@pytest.mark.parametrize("name", sorted(examine.TRIALS))
def test_a_trial_draws_something(name):
    """What is compared between devices is not blank: a kernel that writes nothing would equal it."""
    drawn = examine.TRIALS[name](CPU)
    assert drawn.numel() >= 20
    assert len(drawn.unique()) >= 2
