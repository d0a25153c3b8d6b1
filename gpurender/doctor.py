"""What this machine can draw with, tried and not guessed."""

import platform
from collections.abc import Callable
from typing import Any

from gpurender.environment import PACKAGES, environment, version


def examine() -> dict[str, Any]:
    """Versions, devices and kernels; every kernel draws a small image to show that it works."""
    import torch

    from gpurender import __version__

    here = environment()
    devices = [{"device": "cpu", "name": here["cpu"], "cores": here["cores"], "threads": here["threads"]}]
    devices += [
        {"device": f"cuda:{i}", "name": torch.cuda.get_device_name(i), "mib": torch.cuda.mem_get_info(i)[1] >> 20}
        for i in range(torch.cuda.device_count())
    ]
    return {
        "gpurender": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "devices": devices,
        "kernels": [_try(name, trial) for name, trial in _TRIALS.items()]
        + [{"kernel": name, "device": "cuda", **_NO_CUDA} for name in _TRIALS],
    }


_NO_CUDA = {"implementation": None, "available": False, "reason": "this version draws on the CPU only"}


def _try(name: str, trial: Callable[[], None]) -> dict[str, Any]:
    kernel = {"kernel": name, "device": "cpu", "implementation": "numba"}
    try:
        trial()
    except Exception as error:  # whatever is wrong is what the doctor reports
        return {**kernel, "available": False, "reason": " ".join(f"{type(error).__name__}: {error}".split())}
    return {**kernel, "available": True, "reason": None}


def _philox() -> None:
    import numpy as np

    from gpurender.kernels.philox import philox

    found = philox(np.zeros((1, 4), np.uint32), (0, 0))[0].tolist()
    if found != [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]:  # Random123's known answer
        raise RuntimeError(f"philox of zeros is {found}")


def _chaos_game() -> None:
    from gpurender import OnePFrac, Renderer

    triangle = [[0.5, 0, 0, 0.5, x, y] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))]
    Renderer(OnePFrac(classes=1, base=triangle, points=1000, image_size=32))(0)


def _polyline() -> None:
    from gpurender import Renderer, VisualAtom

    Renderer(VisualAtom(classes=1, instances=1, image_size=32))(0)


def _augment() -> None:
    import torch

    from gpurender.augment import Crop

    policy = Crop()
    policy.apply(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), policy.draw([0], canvas_size=32), image_size=16)


_TRIALS: dict[str, Callable[[], None]] = {
    "philox": _philox,
    "chaos_game": _chaos_game,
    "polyline": _polyline,
    "augment": _augment,
}


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"gpurender {report['gpurender']}, Python {report['python']}", "", "packages"]
    lines += [f"  {name:<8} {found or '-'}" for name, found in report["packages"].items()]
    lines += ["", "devices"]
    lines += [f"  {device['device']:<8} {device['name']}" for device in report["devices"]]
    lines += ["", "kernels"]
    for kernel in report["kernels"]:
        state = f"on ({kernel['implementation']})" if kernel["available"] else f"off: {kernel['reason']}"
        lines.append(f"  {kernel['kernel']:<11} {kernel['device']:<8} {state}")
    return "\n".join(lines)
