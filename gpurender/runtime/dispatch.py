"""Dispatch of an operation to its implementation for a device.

A backend is a prefix of modules: in the folder of every operation, ``<backend>.py`` (and ``<backend>_<part>.py``) has
the functions that the operation's ``__init__`` calls. Another backend is an entry in ``BACKENDS`` and these modules;
docs/backends.md lists its other requirements.
"""

import functools
import importlib
from types import ModuleType

import torch

from gpurender.runtime import forks

BACKENDS = {"cpu": "cpu", "cuda": "gpu"}  # torch's type of a device -> the backend


def backend(device: torch.device) -> str:
    """Return the backend of a device.

    Raises:
        ValueError: there is no backend for devices of this type.
    """
    if device.type not in BACKENDS:
        raise ValueError(f"device must be of type {' or '.join(BACKENDS)}, got {device}")
    return BACKENDS[device.type]


def on_host(device: torch.device) -> bool:
    """Return whether the host reads the device's values without waiting, that is, whether its backend is the CPU's."""
    return backend(device) == "cpu"


def implementation(operation: str, device: torch.device, part: str = "") -> ModuleType:
    """Return the module that implements an operation, or a part of it, on a device.

    Args:
        operation: a folder in ``kernels/``.
        part: part of the operation, if the operation has several modules per backend.

    Raises:
        ValueError: there is no backend for devices of this type.
        NotImplementedError: the backend has no such module.
    """
    return _imported(operation, backend(device), part)


@functools.cache  # a batch asks twenty times, and Python's own look-up takes 5 us
def _imported(operation: str, side: str, part: str) -> ModuleType:
    name = f"gpurender.kernels.{operation}.{side}" + (f"_{part}" if part else "")
    try:
        with forks.IMPORTS:
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # a package that the module needs
            raise
        raise NotImplementedError(f"{operation} has no implementation for backend {side}: {name} is missing") from None
