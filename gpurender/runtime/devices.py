"""Devices: checks of their names, and of the packages that a GPU needs."""

from typing import Any

import torch

from gpurender.util import checks


def on_gpu(device: torch.device) -> bool:
    """Return whether kernels use their GPU implementation on the device."""
    return device.type == "cuda"


def resolve(device: Any = None) -> torch.device:
    """Return the device of a name: ``None`` is torch's current GPU, or the CPU if there is no GPU.

    Raises:
        ValueError: there is no such device on this machine.
        RuntimeError: the device is a GPU, and the packages that compile its kernels are missing.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if checks.is_boolean(device):
            raise TypeError
        found = torch.device(device)
    except Exception:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:0', 'cuda:1' …, got {checks.shown(device)}") from None
    if found.type == "cpu":
        return torch.device("cpu")
    if found.type != "cuda":
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:0', 'cuda:1' …, got {checks.shown(device)}")
    if not torch.cuda.is_available():
        raise ValueError(
            f"device must be 'cpu' on this machine, where torch sees no CUDA device, got {checks.shown(device)}"
        )
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if found.index is None else found.index
    if index >= count:
        raise ValueError(f"device must be one of cuda:0 to cuda:{count - 1}, got {checks.shown(device)}")
    require_compilers()
    return torch.device("cuda", index)


def cupy_command() -> str:
    """Return the command that installs the CuPy for torch's CUDA."""
    major = (torch.version.cuda or "13").split(".")[0]
    return f"pip install 'gpurender[{'cuda12' if major == '12' else 'cuda13'}]'"


def require_compilers() -> None:
    """Raise an error of one line that names the package to install, if GPU kernels cannot be compiled."""
    from importlib.util import find_spec

    from gpurender.runtime import triton_cache

    if find_spec("cupy") is None:
        raise RuntimeError(f"rendering on a GPU needs CuPy: {cupy_command()} (or use device='cpu')")
    if find_spec("triton") is None:
        raise RuntimeError("rendering on a GPU needs Triton: pip install triton (or use device='cpu')")
    triton_cache.make_usable()
