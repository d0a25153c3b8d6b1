"""How the checks of Triton kernels take a GPU's path, on a GPU or in Triton's interpreter on a CPU."""

import contextlib
from unittest import mock

import pytest
import torch

from gpurender.runtime import devices, dispatch

CPU = torch.device("cpu")


@contextlib.contextmanager
def refused(error, name):
    """An error of this type that names the argument."""
    with pytest.raises(error, match=name):
        yield


@contextlib.contextmanager
def gpu_path(device):
    """CPU tensors take the path of a GPU while this lasts, if that is where the checks run."""
    with (
        mock.patch.object(devices, "on_gpu", lambda found: found == device),
        mock.patch.object(dispatch, "backend", lambda found: "gpu" if found == device else "cpu"),
    ):
        yield


def few_programs(module, device, block=1024):
    """Wide blocks for the interpreter, whose time goes by programs; on a GPU the block is what it is."""
    return mock.patch.object(module, "BLOCK", block if device == CPU else module.BLOCK)
