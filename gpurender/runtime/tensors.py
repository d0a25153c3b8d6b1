"""Tensors that are taken, checked, and tensors that are given, ordinary ones."""

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch

from gpurender.runtime import dispatch

__all__ = ["checked_tensor", "ordinary", "readable", "supported"]

Given = ParamSpec("Given")
Made = TypeVar("Made")


def ordinary(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Decorate a function, so that it makes ordinary tensors, also where it is called in inference mode.

    What it returns then serves in training, too, and what it keeps for later calls may be written into by them: torch
    allows neither of an inference tensor. In the batches of a loader the same is done for whatever a policy makes.
    """

    @functools.wraps(function)
    def called(*arguments: Given.args, **keywords: Given.kwargs) -> Made:
        if not torch.is_inference_mode_enabled():  # to ask takes a tenth of the time of entering a mode
            return function(*arguments, **keywords)
        with torch.inference_mode(False):
            return function(*arguments, **keywords)

    return called


def supported(tensor: torch.Tensor) -> bool:
    """Return whether a tensor lies where the library computes: on a device that has a backend."""
    return tensor.device.type in dispatch.BACKENDS


def readable(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's values can be looked at without waiting for a device."""
    return dispatch.on_host(tensor.device)


def checked_tensor(
    name: str,
    value: torch.Tensor,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | None],
    device: torch.device | None = None,
) -> torch.Tensor:
    """Refuse what is not a tensor of these dtypes and this shape (None: any length) on the device (None: any)."""
    lengths = ", ".join("any" if length is None else str(length) for length in shape)
    allowed = f"a tensor of {' or '.join(str(dtype) for dtype in dtypes)} [{lengths}] on {device or 'a CPU or a GPU'}"
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be {allowed}, got {type(value).__name__}")
    got = f"{value.dtype} {list(value.shape)} on {value.device}"
    if value.dtype not in dtypes:
        raise TypeError(f"{name} must be {allowed}, got {got}")
    fits = value.dim() == len(shape) and all(b in (None, a) for a, b in zip(value.shape, shape, strict=True))
    if not fits or (value.device != device if device else not supported(value)):
        raise ValueError(f"{name} must be {allowed}, got {got}")
    return value.contiguous()
