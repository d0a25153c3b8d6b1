"""A report of what can render on this machine, found by trying every kernel."""

import os
import platform
from collections.abc import Sequence
from typing import Any

from gpurender.commands.checkup import ahead
from gpurender.commands.checkup.trials import TRIALS
from gpurender.util.environment import PACKAGES, driver, environment, version
from gpurender.util.plural import counted
from gpurender.util.progress import progress

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
        "kernels": _tried([torch.device("cpu"), *gpus]) + [_no_gpu(name) for name in TRIALS if not gpus],
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


def _tried(devices: Sequence[Any]) -> list[dict[str, Any]]:
    """Run the trials of all kernels on devices."""
    if ahead.worthwhile():
        ahead.compile_ahead(list(TRIALS), devices)
    jobs, found = [(name, device) for device in devices for name in TRIALS], []
    with progress(total=len(jobs), desc="try", unit="kernel", miniters=0) as bar:
        for name, device in jobs:
            bar.set_postfix_str(f"{name} on {device}")
            found.append(_try(name, device))
            bar.update()
    return found


def _try(name: str, device: Any) -> dict[str, Any]:
    """Run a kernel's trial on a device; on a GPU, compare with the CPU."""
    import torch

    from gpurender.runtime.devices import on_gpu, require_compilers

    gpu = on_gpu(device)
    kernel = {"kernel": name, "device": str(device), "implementation": _compiler(name) if gpu else "numba"}
    try:
        if gpu:
            require_compilers()
        drawn = TRIALS[name](device)
        if gpu and not torch.equal(drawn.cpu(), TRIALS[name](torch.device("cpu"))):
            raise RuntimeError("it renders something else than the CPU does; please report this")
    except Exception as error:  # the doctor reports every failure
        return {**kernel, "available": False, "reason": " ".join(f"{type(error).__name__}: {error}".split())}
    return {**kernel, "available": True, "reason": None}


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
