"""The environment of a measurement: hardware, versions, commit."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = {
    "torch": ("torch",),
    "triton": ("triton",),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "numba": ("numba",),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "timm": ("timm",),
    "torchvision": ("torchvision",),
    "dali": ("nvidia-dali-cuda130", "nvidia-dali-cuda120"),
}


def version(package: str) -> str | None:
    """Return the version of a package's installed distribution, or ``None`` if there is none; import nothing."""
    for name in PACKAGES[package]:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def environment(device: Any = None) -> dict[str, Any]:
    """Return the ``environment`` of a bench result (bench/README.md); ``device``: the GPU, if not the current one."""
    import torch

    from gpurender.util.version import __version__

    gpu = torch.cuda.is_available()
    if device is not None and device.type == "cpu":
        device = None
    return {
        "gpu": torch.cuda.get_device_name(device) if gpu else None,
        "driver": driver() if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        **{name: version(name) for name in ("torch", "triton", "cupy", "numba")},
        "gpurender": __version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def driver() -> str | None:
    """Return the version of the NVIDIA driver, as nvidia-smi or the kernel's module tells it; ``None`` without one."""
    told = _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    if told is not None:
        return told
    try:
        module = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(r"\b[0-9]{3,}\.[0-9.]+\b", module)
    return found[0] if found else "of unknown version"


def _commit() -> str | None:
    """Return the commit of the checkout this package runs from, followed by ``+`` if files are changed; ``None`` for an
    installed copy.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}+" if commit and changed else commit


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
