"""CUDA kernels: compiled once, kept on disk, launched on torch's current stream.

A kernel's source is ``kernels/<operation>/gpu.cu`` with everything that it includes, after the stream numbers of
``numerics/streams.py``. NVRTC compiles the source to machine code for one architecture (NVRTC needs no GPU for that, so
a login node can prepare the kernels of a cluster), and :mod:`gpurender.runtime.kernel_cache` keeps the result. The file
is named by the hash of everything that the code depends on and is written atomically: many processes may compile the
same kernel at once, and each ends up with a valid file.

``--fmad=false``: a fused multiply-add rounds once where the reference rounds twice. Denormals are kept (CuPy's own
compilation would flush them), and division is IEEE division.
"""

import functools
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from gpurender.numerics.streams import Stream
from gpurender.runtime import compiling, cupy_cache, kernel_cache

log = logging.getLogger("gpurender")

KERNELS = Path(__file__).parent.parent / "kernels"
OPERATIONS = tuple(sorted(path.parent.name for path in KERNELS.glob("*/gpu.cu")))
INCLUDE = re.compile(r'[ \t]*#[ \t]*include[ \t]*"([^"]*)"')
OPTIONS = ("-std=c++17", "--fmad=false", "--prec-div=true", "--ftz=false")
FREE_SHARED = 32 << 10  # bytes of dynamic shared memory per block without a request, besides 16 KB of static

Argument = torch.Tensor | np.generic | None


class Limits(NamedTuple):
    """Limits of a GPU: number of multiprocessors, bytes of shared memory per block and per multiprocessor."""

    multiprocessors: int
    shared_a_block: int
    shared_a_multiprocessor: int


def source(operation: str) -> str:
    """Return the whole source of an operation's kernels; NVRTC needs no include path for it.

    ``#include "device/common.cuh"`` is replaced by that file of ``gpurender/kernels``; a repeated ``#include`` is
    removed.

    Raises:
        ValueError: an ``#include`` names a file that does not exist or is not in ``gpurender/kernels``.
    """
    streams = "".join(f"#define STREAM_{stream.name} {stream.value}u\n" for stream in Stream)
    return streams + _expanded(f"{operation}/gpu.cu", set())


def _expanded(name: str, included: set[str]) -> str:
    """Return a file of the kernels' folder with the files that it includes, except those in ``included``."""
    included.add(name)
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((KERNELS / name).read_text(encoding="utf-8").splitlines(), 1):
        if found := INCLUDE.match(line):
            other = _includable(found[1], f"{name}:{number}")
            lines += [] if other in included else [_expanded(other, included)]
            lines.append(f'#line {number + 1} "{name}"')  # for the compiler's messages
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _includable(name: str, where: str) -> str:
    """Return an included file's path below the kernels' folder. Links are allowed: some installers make links."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f'{where}: #include must name a file in gpurender/kernels, got "{name}", which is outside')
    if not (KERNELS / path).is_file():
        raise ValueError(f'{where}: #include must name a file in gpurender/kernels, got "{name}", which does not exist')
    return str(path)


def compiled(operation: str, architecture: str) -> bytes:
    """Compile an operation to machine code for ``"sm_90"`` and the like, or to PTX for ``"compute_90"``.

    Raises:
        ValueError: NVRTC does not know the architecture.
        RuntimeError: the source does not compile; the message contains NVRTC's log.
    """
    nvrtc = cupy_cache.imported().cuda.nvrtc
    known = supported_architectures()
    number = architecture.partition("_")[2].rstrip("af")
    if not architecture.startswith(("sm_", "compute_")) or number not in (name[3:] for name in known):
        raise ValueError(f"architecture must be one of {', '.join(known)}, got {architecture!r}")
    program = nvrtc.createProgram(source(operation), f"{operation}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture={architecture}"))
        made = nvrtc.getCUBIN(program) if architecture.startswith("sm_") else nvrtc.getPTX(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"{operation}: {error}\n{nvrtc.getProgramLog(program)}") from None
    finally:
        nvrtc.destroyProgram(program)
    if isinstance(made, str):
        return made.encode()
    return made.ljust(-(-len(made) // 8) * 8, b"\0")  # CuPy 14 cuts off the last byte, a part of the section table


def supported_architectures() -> tuple[str, ...]:
    """Return the architectures that the installed NVRTC supports, oldest first: ``sm_75``, ``sm_80`` …"""
    nvrtc = cupy_cache.imported().cuda.nvrtc
    return tuple(f"sm_{number}" for number in sorted(nvrtc.getSupportedArchs()))


def architecture_of(device: torch.device) -> str:
    """Return the architecture to compile for: the device's own, or PTX of the newest known one if NVRTC lacks it."""
    major, minor = torch.cuda.get_device_capability(device)
    known = supported_architectures()
    own = f"sm_{major}{minor}"
    return own if own in known else known[-1].replace("sm_", "compute_")


def place(operation: str, architecture: str) -> Path | None:
    """Return the file of an operation's machine code, which need not exist; ``None`` if no folder can hold it.

    The name is a hash of everything that the code depends on: source, options, architecture and NVRTC's version.
    """
    nvrtc = cupy_cache.imported().cuda.nvrtc
    folder = kernel_cache.folder()
    if folder is None:
        return None
    version = ".".join(str(part) for part in nvrtc.getVersion())
    law = "\0".join((source(operation), *OPTIONS, architecture, version))
    name = f"{operation}-{architecture}-{hashlib.sha256(law.encode()).hexdigest()[:32]}"
    return folder / (name + (".cubin" if architecture.startswith("sm_") else ".ptx"))


def cached(operation: str, architecture: str) -> Path | None:
    """Return the file of an operation's machine code, compiled if missing; ``None`` if the code cannot be kept."""
    path = place(operation, architecture)
    if path is None:
        return None
    there = kernel_cache.load(path) is not None or kernel_cache.save(path, compiled(operation, architecture))
    return path if there else None


@functools.cache
def limits(device: torch.device) -> Limits:
    """Return the device's multiprocessor count and shared-memory limits (cached)."""
    cupy = cupy_cache.imported()
    found = cupy.cuda.Device(device.index).attributes
    names = ("MultiProcessorCount", "MaxSharedMemoryPerBlockOptin", "MaxSharedMemoryPerMultiprocessor")
    return Limits(*(found[name] for name in names))


def launch(
    operation: str,
    name: str,
    *,
    device: torch.device,
    blocks: int,
    threads: int,
    shared: int = 0,
    arguments: Sequence[Argument],
) -> None:
    """Launch a kernel on torch's current stream of a device.

    Args:
        operation: folder of the kernel.
        name: the kernel's own name.
        device: a GPU, with its index.
        blocks, threads: number of blocks in the grid and of threads per block; a grid of no blocks is not launched.
        shared: bytes of dynamic shared memory per block.
        arguments: tensors, passed as addresses (``None``: a null pointer), and NumPy scalars of the parameters' types.
    """
    if blocks == 0:
        return
    cupy = cupy_cache.imported()
    with torch.cuda.device(device):
        kernel = _kernel(operation, name, device.index)
        kernel.allow(shared)
        handle = torch.cuda.current_stream(device).cuda_stream  # at each launch: a kept stream would miss a capture
        if hasattr(cupy.cuda.Stream, "from_external"):  # CuPy 14
            stream = cupy.cuda.Stream.from_external(_Stream(handle))
        else:
            stream = cupy.cuda.ExternalStream(handle, device.index)
        with stream:
            kernel.raw((blocks,), (threads,), tuple(_value(argument) for argument in arguments), shared_mem=shared)


class _Stream(NamedTuple):
    """A CUDA stream in the protocol by which CUDA libraries exchange streams (version, address)."""

    handle: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def _value(argument: Argument) -> np.generic:
    if isinstance(argument, torch.Tensor):
        assert argument.is_contiguous()
        return np.uintp(argument.data_ptr())
    return np.uintp(0) if argument is None else argument


class _Kernel:
    """A kernel of a device's module, and the shared memory that its blocks may use."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self._allowed = FREE_SHARED

    def allow(self, shared: int) -> None:
        """Allow ``shared`` bytes per block; the limit is never lowered, because all launches share it."""
        if shared > self._allowed:
            self.raw.max_dynamic_shared_size_bytes = shared
            self.raw.preferred_shared_memory_carveout = 100  # percent: the number of resident blocks matters most
            self._allowed = shared


@functools.cache
def _kernel(operation: str, name: str, index: int) -> _Kernel:
    """Return a kernel, loaded on the current device ``index``."""
    return _Kernel(_module(operation, index).get_function(name))


@functools.cache
def _module(operation: str, index: int) -> Any:
    """Return the operation's module on the current device; machine code that cannot be used is compiled again."""
    architecture = architecture_of(torch.device("cuda", index))
    path = place(operation, architecture)
    kept = None if path is None else kernel_cache.load(path)
    if kept is not None:
        try:
            return _loaded(kept)
        except Exception as error:  # any error of the driver for code that it cannot use
            log.warning("%s is compiled again: %s", path, error)
    compiling.announce(kernel_cache.folder())
    made = compiled(operation, architecture)
    if path is not None:
        kernel_cache.save(path, made)
    return _loaded(made)


def _loaded(code: bytes) -> Any:
    """Return machine code as a module of CuPy, loaded on the current device.

    CuPy reads a file and caches the module by the file's path, so no path is used twice: the file is a temporary file
    or, if no disk accepts one, a file in memory that stays open.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "code"
            path.write_bytes(code)
            return _loaded_from(os.fspath(path))
    except OSError as error:
        log.info("machine code is loaded from memory: %s", error)
    handle = os.memfd_create("gpurender")
    with os.fdopen(handle, "wb", closefd=False) as file:
        file.write(code)
    return _loaded_from(f"/proc/self/fd/{handle}")


def _loaded_from(path: str) -> Any:
    module = cupy_cache.imported().RawModule(path=path)
    module.compile()  # loads the module now: the file may be removed
    return module
