"""On which stream CUDA C is launched: the one that torch works on at that moment, in either CuPy."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from gpurender.runtime import cuda

GPU = torch.device("cuda", 1)


class Kernel:
    """A kernel that writes its launch down, with the stream that is CuPy's at that moment."""

    def __init__(self, log):
        self.log, self.current, self.allowed = log, None, []

    def allow(self, shared):
        """Written down before the launch that needs it."""
        self.allowed.append((len(self.log), shared))

    def raw(self, grid, block, arguments, shared_mem):
        self.log.append((self.current, grid, block, arguments, shared_mem))


@pytest.mark.parametrize("newer", [True, False], ids=["CuPy 14", "before"])
def test_kernels_are_launched_on_torch_s_current_stream(monkeypatch, newer):
    log, entered = [], []
    kernel = Kernel(log)

    @contextlib.contextmanager
    def stream(handle):
        kernel.current = handle
        yield
        kernel.current = None

    made = SimpleNamespace(Stream=SimpleNamespace())
    if newer:
        made.Stream.from_external = lambda other: stream(other.__cuda_stream__())
    else:
        made.ExternalStream = lambda handle, index: stream((index, handle))
    cupy = ModuleType("cupy")
    cupy.cuda = made
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "_kernel", lambda operation, name, index: kernel)
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device=None: SimpleNamespace(cuda_stream=0))
    usable = []
    monkeypatch.setattr(cuda.cupy_cache, "make_usable", lambda: usable.append(len(log)))
    current = SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current if device == GPU else None)
    for handle in (77, 88):
        current.cuda_stream = handle  # asked anew at every launch
        cuda.launch("operation", "kernel", device=GPU, blocks=5, threads=64, shared=128, arguments=(np.int32(3), None))
    place = (0,) if newer else (1,)
    assert log == [((*place, handle), (5,), (64,), (np.int32(3), np.uintp(0)), 128) for handle in (77, 88)]
    assert entered == [GPU, GPU]
    assert usable == [0, 1]  # before each launch, which imports CuPy
    assert kernel.allowed == [(0, 128), (1, 128)]
    cuda.launch("operation", "kernel", device=GPU, blocks=0, threads=64, arguments=())
    assert len(log) == 2
