"""A report of what can render on this machine, found by trying every kernel."""

import os
import platform
from collections.abc import Callable
from typing import Any

from gpurender.util.environment import PACKAGES, driver, environment, version
from gpurender.util.plural import counted

NO_GPU = "torch sees no CUDA device"
TORCH = "pip install --force-reinstall torch (or the build for your driver: https://pytorch.org/get-started/locally)"
NO_CACHE = "cannot be written: every process compiles the kernels again"


def examine() -> dict[str, Any]:
    """Return versions, devices, kernels, and the problems with their remedies.

    Every kernel runs a small case, which is compared with the CPU's on a GPU.
    """
    import torch

    from gpurender.util.version import __version__

    here = environment()
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    devices = [{"device": "cpu", "name": here["cpu"], "cores": here["cores"], "threads": here["threads"]}]
    devices += [
        {"device": str(gpu), "name": torch.cuda.get_device_name(gpu), "mib": torch.cuda.mem_get_info(gpu)[1] >> 20}
        for gpu in gpus
    ]
    kept = {device["device"]: _kept(torch.device(device["device"])) for device in devices}
    report = {
        "gpurender": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "cuda": {"torch": torch.version.cuda, "driver": driver()},
        "devices": devices,
        "kept": kept,
        "kernels": [_try(name, torch.device("cpu")) for name in _TRIALS]
        + [_try(name, gpu) for gpu in gpus for name in _TRIALS]
        + [_no_gpu(name) for name in _TRIALS if not gpus],
        "cache": _cache(),
    }
    return {"verdict": _verdict(report), "problems": _problems(report), **report}


def _kept(device: Any) -> dict[str, Any]:
    """Return the budget of kept bitmaps on a device now, and the bytes that presets whose images repeat would keep."""
    from gpurender.recipes.base import presets, recipe
    from gpurender.runtime import free_memory

    budget, repeating = free_memory.share(device), [name for name in presets() if recipe(name).kept_bytes(1 << 62)]
    return {"cache_bytes": budget, "presets": {name: recipe(name).kept_bytes(budget) for name in repeating}}


def _verdict(report: dict[str, Any]) -> str:
    """Return the devices that render, in one line: GPUs first; those on which some kernels are off say which."""
    found = []
    for device in [*report["devices"][1:], report["devices"][0]]:
        own = [kernel for kernel in report["kernels"] if kernel["device"] == device["device"]]
        off = [kernel["kernel"] for kernel in own if not kernel["available"]]
        if len(off) == len(own):
            continue
        cpu = device["device"] == "cpu"
        name = f"CPU ({counted(device['threads'], 'thread')})" if cpu else f"{device['device']} {device['name']}"
        found.append(name + (f" without {' and '.join(off)}" if off else ""))
    return "renders on: " + (", ".join(found) or "nothing")


def _problems(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return what is wrong, in one line each, and what to do about it."""
    found = dict([_missing_gpu(report["cuda"])] if len(report["devices"]) == 1 else [])
    for kernel in report["kernels"]:
        if kernel["reason"] not in (None, NO_GPU):
            found.setdefault(f"{kernel['device']}: {kernel['reason']}", _remedy(kernel))
    if not report["cache"]["writable"]:
        found[f"the cache {NO_CACHE}"] = "set GPURENDER_CACHE_DIR to a folder that can be written"
    return [{"problem": problem, "remedy": remedy} for problem, remedy in found.items()]


def _missing_gpu(cuda: dict[str, Any]) -> tuple[str, str]:
    """Return why torch sees no GPU, and what to do about it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if cuda["driver"] is None:
        remedy = (
            "none if the machine has no NVIDIA GPU; else install its driver, or start the container with --gpus all"
        )
        if cuda["torch"] is None:
            remedy += f", and a torch that is built with CUDA: {TORCH}"
        return f"{NO_GPU}: there is no NVIDIA driver", remedy
    if cuda["torch"] is None:
        return f"{NO_GPU}: torch is built without CUDA (the driver is {cuda['driver']})", TORCH
    if hidden is not None:
        remedy = "unset CUDA_VISIBLE_DEVICES, or let it name a GPU that nvidia-smi lists"
        return f"{NO_GPU}: CUDA_VISIBLE_DEVICES is {hidden!r}", remedy
    problem = f"{NO_GPU}: torch's CUDA {cuda['torch']} does not start with driver {cuda['driver']}"
    return problem, "update the driver, or install a torch for an older CUDA: https://pytorch.org/get-started/locally"


def _remedy(kernel: dict[str, Any]) -> str:
    """Return what to do about a kernel that is off."""
    from gpurender.runtime.devices import cupy_command

    if "needs CuPy" in kernel["reason"]:
        return cupy_command()
    if "needs Triton" in kernel["reason"]:
        return "pip install triton"
    return "gpurender doctor --clean-cache, then this again; if it stays, report the output of gpurender doctor --json"


def _cache() -> dict[str, Any]:
    """Return the folders of search results and of compiled kernels (``None``: none), whether both are writable, and the
    bytes of all files kept in them.
    """
    from gpurender.commands.checkup import cache
    from gpurender.runtime import kernel_cache
    from gpurender.util import disk_cache

    root, kernels = disk_cache.directory(), kernel_cache.numba_folder()
    return {
        "folder": None if root is None else str(root),
        "kernels": None if kernels is None else str(kernels),
        "writable": kernel_cache.writable(root) and kernel_cache.writable(kernels),
        "bytes": cache.size(),
    }


def _compiler(name: str) -> str:
    """Return the compiler of a kernel for a GPU: ``"cuda"`` if the kernel has a CUDA C source, else ``"triton"``."""
    from gpurender.runtime import cuda

    return "cuda" if name in cuda.OPERATIONS else "triton"


def _no_gpu(name: str) -> dict[str, Any]:
    return {"kernel": name, "device": "cuda", "implementation": None, "available": False, "reason": NO_GPU}


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


def _point_cloud(device: Any) -> Any:
    from gpurender.recipes import ExFractalDB
    from gpurender.renderer import Renderer

    return Renderer(ExFractalDB.smallest(), device)(0)


def _diamond_square(device: Any) -> Any:
    import torch

    from gpurender.kernels.diamond_square import textures

    law = torch.tensor([[0.5, 200.0, 30.0, 60.0, 120.0, 100.0, 120.0]], dtype=torch.float32, device=device)
    return textures(law, torch.zeros(1, dtype=torch.int64, device=device), seed=1, size=33, hue_unit=1 / 30)


def _collage(device: Any) -> Any:
    from gpurender.recipes import ColorFractal
    from gpurender.renderer import Renderer

    return Renderer(ColorFractal.smallest(), device)([0, 1])


def _pixel_noise(device: Any) -> Any:
    from gpurender.recipes import Noise
    from gpurender.renderer import Renderer

    return Renderer(Noise.smallest(), device)(0)


def _warp(device: Any) -> Any:
    from gpurender.recipes import SingleImage
    from gpurender.renderer import Renderer

    return Renderer(SingleImage.smallest(), device)([0, 1])


def _shuffle(device: Any) -> Any:
    import torch

    from gpurender.kernels.shuffle import addresses

    cursor = torch.tensor([3, 5], device=device)
    return torch.stack(addresses(cursor, 20, length=99, seed=1, instances=4, shuffle=True))


def _augment_params(device: Any) -> Any:
    import torch

    from gpurender.augment import DeiT

    policy = DeiT(interpolation="random", re_prob=0.5, re_count=(1, 2), mixup_mode="elem", force_color_jitter=True)
    drawn = policy.draw(torch.arange(32, device=device), seed=5, canvas_size=64, image_size=48)
    return torch.cat([_bits(drawn[name]) for name in sorted(drawn)])


def _bits(values: Any) -> Any:
    """Return a tensor's values as int64 ``[N]``, floating ones as their bits."""
    import torch

    flat = values.reshape(-1)
    return flat.view(torch.int64) if flat.dtype == torch.float64 else flat.to(torch.int64)


def _resized_crop(device: Any) -> Any:
    import torch

    from gpurender.augment import Crop
    from gpurender.kernels.resized_crop import BitCanvases

    policy = Crop()
    numbers = torch.arange(32 * 32, device=device)
    which = torch.zeros(1, dtype=torch.int64, device=device)
    bits = BitCanvases(numbers[:32].to(torch.int32).view(1, 32, 1) * 54321, which, which.to(torch.uint8))
    drawn = policy.draw(which, canvas_size=32)
    canvases: Any = (numbers.to(torch.uint8).view(1, 1, 32, 32), bits)  # each has its own kernel on a GPU
    return torch.cat([policy.apply(each, drawn, image_size=16) for each in canvases])


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
    "point_cloud": _point_cloud,
    "diamond_square": _diamond_square,
    "collage": _collage,
    "pixel_noise": _pixel_noise,
    "warp": _warp,
    "shuffle": _shuffle,
    "augment_params": _augment_params,
    "resized_crop": _resized_crop,
    "image_ops": _image_ops,
    "mix_erase": _mix_erase,
}


def table(report: dict[str, Any]) -> str:
    """Return the report as plain text: the verdict, the problems with their remedies, then everything found."""
    lines = [report["verdict"]]
    for found in report["problems"]:
        word = "no GPU: " if found["problem"].startswith(NO_GPU) else "problem:"
        lines += ["", f"{word} {found['problem']}", f"remedy:  {found['remedy']}"]
    lines += ["", f"gpurender {report['gpurender']}, Python {report['python']}", "", "packages"]
    lines += [f"  {name:<12} {found or '-'}" for name, found in report["packages"].items()]
    cuda = report["cuda"]
    lines += [
        "",
        "CUDA",
        f"  {'torch':<12} {cuda['torch'] or 'built without CUDA'}",
        f"  {'driver':<12} {cuda['driver'] or '-'}",
    ]
    lines += ["", "devices"]
    lines += [f"  {device['device']:<12} {device['name']}" for device in report["devices"]]
    lines += ["", "bitmaps kept, in MiB, of images that repeat (gr.DataLoader's cache_bytes; 0: drawn anew)"]
    lines += [f"  {device:<12} {_kept_line(kept)}" for device, kept in report["kept"].items()]
    lines += ["", "kernels", *_kernel_lines(report["kernels"])]
    found = report["cache"]
    lines += [
        "",
        "cache",
        f"  {'searches':<12} {found['folder'] or '-'}",
        f"  {'kernels':<12} {found['kernels'] or '-'}",
    ]
    lines.append(f"  {'size':<12} {found['bytes'] / 1e6:.1f} MB (gpurender doctor --clean-cache removes it)")
    return "\n".join(lines)


def _kept_line(kept: dict[str, Any]) -> str:
    """Return the budget of a device and what presets would keep, in MiB."""
    each = ", ".join(f"{name} {bytes / 2**20:.0f}" for name, bytes in kept["presets"].items())
    return f"up to {kept['cache_bytes'] / 2**20:.4g}: {each}"


def _kernel_lines(kernels: list[dict[str, Any]]) -> list[str]:
    """Return a line for each kernel, and one line for all kernels of a device that are off for the same reason."""
    lines: dict[str, None] = {}
    for kernel in kernels:
        own = {(other["available"], other["reason"]) for other in kernels if other["device"] == kernel["device"]}
        name = "all" if len(own) == 1 and not kernel["available"] else kernel["kernel"]
        state = f"on ({kernel['implementation']})" if kernel["available"] else f"off: {kernel['reason']}"
        lines[f"  {name:<14} {kernel['device']:<8} {state}"] = None
    return list(lines)
