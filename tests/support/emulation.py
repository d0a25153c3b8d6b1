"""A GPU that is none: the CUDA C of the kernels, built by g++ and run block by block on CPU tensors.

:func:`emulated_gpu` makes the library take its GPU path for CPU tensors: launchers, grids, arguments and the kernels'
own source run as they would there; only the compiler, the scheduler and CuPy's launch are others. Triton kernels need
``TRITON_INTERPRET=1`` in the process's environment before Triton is imported.
"""

import contextlib
import ctypes
import functools
import importlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from gpurender.runtime import cuda, devices, dispatch

HEADER = Path(__file__).with_name("cuda_host.h")
HOPPER = cuda.Limits(multiprocessors=132, shared_a_block=227 << 10, shared_a_multiprocessor=228 << 10)
ADA = cuda.Limits(multiprocessors=128, shared_a_block=99 << 10, shared_a_multiprocessor=100 << 10)
TINY = cuda.Limits(multiprocessors=2, shared_a_block=8 << 10, shared_a_multiprocessor=16 << 10)  # many bands

TRITON_PARTS = ("instances", "centres")  # what renderers launch beside CUDA C
IMPLEMENTATION = dispatch.implementation

FLAGS = ("-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-w")


def require_compiler():
    """Skip a test where there is no g++."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to build the CUDA C for the CPU")


@functools.cache
def library(operation, more=""):
    """The operation's kernels as a shared library, with ``more`` C++ behind them."""
    require_compiler()
    folder = tempfile.mkdtemp(prefix="gpurender-host-")
    source, target = Path(folder, f"{operation}.cpp"), Path(folder, f"{operation}.so")
    source.write_text(HEADER.read_text() + cuda.source(operation) + more)
    done = subprocess.run(["g++", *FLAGS, str(source), "-o", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return loaded


C_TYPES = {
    np.dtype(np.int32): ctypes.c_int32,
    np.dtype(np.uint32): ctypes.c_uint32,
    np.dtype(np.int64): ctypes.c_int64,
    np.dtype(np.uint64): ctypes.c_uint64,
    np.dtype(np.float32): ctypes.c_float,
    np.dtype(np.float64): ctypes.c_double,
}


def value(argument):
    """An argument of a launch as ctypes takes it."""
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, torch.Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    return C_TYPES[argument.dtype](argument.item())


class Emulator:
    """Stands in for ``launch`` and ``limits`` of :mod:`gpurender.runtime.cuda`, and for the one stream there is.

    ``log``: names of kernels launched; ``"wait"``, the host waited for the stream; ``"lent"``, the allocator was told
    that the stream reads a tensor; ``"pinned"``, something was copied to pinned memory.
    """

    def __init__(self, limits=HOPPER, threads=1):
        self.found, self.threads = limits, threads
        self.launches = []  # (operation, name, blocks, threads, shared)
        self.log = []

    def limits(self, device):
        """What the GPU that is none has."""
        return self.found

    def launch(self, operation, name, *, device, blocks, threads, shared=0, arguments):
        """Run every block of a kernel."""
        assert shared <= self.found.shared_a_block
        assert 1 <= threads <= 1024
        assert blocks < 2**31
        self.launches.append((operation, name, blocks, threads, shared))
        self.log.append(name)
        built = library(operation)
        kernel, values = getattr(built, name), [value(argument) for argument in arguments]
        kernel.restype = None
        built.host_threads(self.threads)
        for block in range(blocks):
            built.host_block(block, blocks)
            if self.threads == 1:
                kernel(*values)
            else:
                self._run_threads(built, kernel, values)

    def synchronize(self):
        """As a stream."""
        self.log.append("wait")

    def record_stream(self, tensor, stream):
        """What the allocator is told."""
        assert stream is self
        self.log.append("lent")

    def pin_memory(self, tensor):
        """A copy, as in pinned memory."""
        self.log.append("pinned")
        return tensor.clone()

    def _run_threads(self, built, kernel, values):
        def work(thread):
            built.host_thread(thread)
            kernel(*values)

        running = [threading.Thread(target=work, args=(thread,)) for thread in range(self.threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()


def implementation(operation, device, part=""):
    """The GPU's implementation; of a part that is in Triton the CPU's, if this process does not interpret Triton."""
    if part in TRITON_PARTS and os.environ.get("TRITON_INTERPRET") != "1":
        return importlib.import_module(f"gpurender.kernels.{operation}.cpu_{part}")
    return IMPLEMENTATION(operation, device, part)


@contextlib.contextmanager
def emulated_gpu(limits=HOPPER, threads=1):
    """CPU tensors take the GPU path; yields the emulator."""
    require_compiler()
    emulator = Emulator(limits, threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "on_gpu", lambda device: True)
        patch.setattr(dispatch, "backend", lambda device: "gpu")
        patch.setattr(dispatch, "implementation", implementation)
        patch.setattr(cuda, "launch", emulator.launch)
        patch.setattr(cuda, "limits", emulator.limits)
        patch.setattr(torch.cuda, "current_stream", lambda device: emulator)
        patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: emulator.record_stream(tensor, stream))
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: emulator.pin_memory(tensor))
        yield emulator
