"""A report of what can render on this machine, found by trying every kernel."""

import platform
from collections.abc import Callable
from typing import Any

from gpurender.util.environment import PACKAGES, environment, version


def examine() -> dict[str, Any]:
    """Return versions, devices and kernels; every kernel runs a small case, compared with the CPU on a GPU."""
    import torch

    from gpurender.util.version import __version__

    here = environment()
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    devices = [{"device": "cpu", "name": here["cpu"], "cores": here["cores"], "threads": here["threads"]}]
    devices += [
        {"device": str(gpu), "name": torch.cuda.get_device_name(gpu), "mib": torch.cuda.mem_get_info(gpu)[1] >> 20}
        for gpu in gpus
    ]
    return {
        "gpurender": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "devices": devices,
        "kernels": [_try(name, torch.device("cpu")) for name in _TRIALS]
        + [_try(name, gpu) for gpu in gpus for name in _TRIALS]
        + [_no_gpu(name) for name in _TRIALS if not gpus],
        "cache": _cache(),
    }


def _cache() -> dict[str, Any]:
    """Return the folders of search results and of compiled kernels (``None``: none), and whether both are writable."""
    from gpurender.runtime import kernel_cache
    from gpurender.util import disk_cache

    root, kernels = disk_cache.directory(), kernel_cache.numba_folder()
    return {
        "folder": None if root is None else str(root),
        "kernels": None if kernels is None else str(kernels),
        "writable": kernel_cache.writable(root) and kernel_cache.writable(kernels),
    }


def _compiler(name: str) -> str:
    """Return the compiler of a kernel for a GPU: ``"cuda"`` if the kernel has a CUDA C source, else ``"triton"``."""
    from gpurender.runtime import cuda

    return "cuda" if name in cuda.OPERATIONS else "triton"


def _no_gpu(name: str) -> dict[str, Any]:
    reason = "torch sees no CUDA device"
    return {"kernel": name, "device": "cuda", "implementation": None, "available": False, "reason": reason}


def _try(name: str, device: Any) -> dict[str, Any]:
    """Run a kernel's trial on a device; on a GPU, compare with the CPU."""
    import torch

    from gpurender.runtime.devices import on_gpu, require_compilers

    gpu = on_gpu(device)
    kernel = {"kernel": name, "device": str(device), "implementation": _compiler(name) if gpu else "numba"}
    try:
        if gpu:
            require_compilers()
        drawn = _TRIALS[name](device)
        if gpu and not torch.equal(drawn.cpu(), _TRIALS[name](torch.device("cpu"))):
            raise RuntimeError("it renders something else than the CPU does; please report this")
    except Exception as error:  # the doctor reports every failure
        return {**kernel, "available": False, "reason": " ".join(f"{type(error).__name__}: {error}".split())}
    return {**kernel, "available": True, "reason": None}


def _philox(device: Any) -> Any:
    import torch

    from gpurender.kernels.philox import words
    from gpurender.numerics.streams import Stream

    return words(7, Stream.POINTS, torch.arange(40, device=device), blocks=2)


def _chaos_game(device: Any) -> Any:
    from gpurender.recipes import OnePFrac
    from gpurender.renderer import Renderer

    return Renderer(OnePFrac.smallest(), device)(0)


def _visual_atom(device: Any) -> Any:
    from gpurender.recipes import VisualAtom
    from gpurender.renderer import Renderer

    return Renderer(VisualAtom.smallest(), device)(0)


def _shuffle(device: Any) -> Any:
    import torch

    from gpurender.kernels.shuffle import addresses

    cursor = torch.tensor([3, 5], device=device)
    return torch.stack(addresses(cursor, 20, length=99, seed=1, instances=4, shuffle=True))


def _resized_crop(device: Any) -> Any:
    import torch

    from gpurender.augment import Crop

    policy = Crop()
    canvas = torch.arange(32 * 32, device=device).to(torch.uint8).view(1, 1, 32, 32)
    drawn = policy.draw(torch.zeros(1, dtype=torch.int64, device=device), canvas_size=32)
    return policy.apply(canvas, drawn, image_size=16)


def _image_ops(device: Any) -> Any:
    import torch

    from gpurender.kernels.image_ops import Operation, apply_ops

    numbers = torch.arange(3 * 32 * 32, device=device)
    images = (numbers * 7 % 251).to(torch.uint8).view(1, 3, 32, 32).expand(len(Operation), -1, -1, -1)
    codes = torch.arange(len(Operation), dtype=torch.int32, device=device)[:, None]
    half = torch.full_like(codes, 0.5, dtype=torch.float64)
    return apply_ops(images, codes, half, torch.ones_like(codes, dtype=torch.uint8), (9, 99, 199))


def _mix_erase(device: Any) -> Any:
    import torch

    from gpurender.augment import DeiT

    policy = DeiT(auto_augment=None, color_jitter=None, re_prob=1.0)
    canvases = torch.arange(4 * 32 * 32, device=device).to(torch.uint8).view(4, 1, 32, 32)
    drawn = policy.draw(torch.arange(4, device=device), canvas_size=32, image_size=16)
    return policy.apply(canvases, drawn, image_size=16)


_TRIALS: dict[str, Callable[[Any], Any]] = {
    "philox": _philox,
    "chaos_game": _chaos_game,
    "visual_atom": _visual_atom,
    "shuffle": _shuffle,
    "resized_crop": _resized_crop,
    "image_ops": _image_ops,
    "mix_erase": _mix_erase,
}


def table(report: dict[str, Any]) -> str:
    """Return the report as plain text."""
    lines = [f"gpurender {report['gpurender']}, Python {report['python']}", "", "packages"]
    lines += [f"  {name:<8} {found or '-'}" for name, found in report["packages"].items()]
    lines += ["", "devices"]
    lines += [f"  {device['device']:<8} {device['name']}" for device in report["devices"]]
    lines += ["", "kernels"]
    for kernel in report["kernels"]:
        state = f"on ({kernel['implementation']})" if kernel["available"] else f"off: {kernel['reason']}"
        lines.append(f"  {kernel['kernel']:<11} {kernel['device']:<8} {state}")
    found = report["cache"]
    lines += ["", "cache", f"  {'searches':<8} {found['folder'] or '-'}", f"  {'kernels':<8} {found['kernels'] or '-'}"]
    if not found["writable"]:
        lines.append("  cannot be written: every process compiles them again; GPURENDER_CACHE_DIR names another folder")
    return "\n".join(lines)
