"""Checks of the tensors that functions take, and ordinary tensors (not inference tensors) as results."""

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch

from gpurender.runtime import dispatch

__all__ = ["checked_tensor", "ordinary", "readable", "supported"]

Given = ParamSpec("Given")
Made = TypeVar("Made")


def ordinary(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Decorate a function so that it makes ordinary tensors, even if it is called in inference mode.

    Its results can then be used in training, and later calls can write into the tensors that it keeps: torch allows
    neither for an inference tensor. In the batches of a loader the same is done for everything that a policy makes.
    """

    @functools.wraps(function)
    def called(*arguments: Given.args, **keywords: Given.kwargs) -> Made:
        if not torch.is_inference_mode_enabled():  # this check takes a tenth of the time of entering a mode
            return function(*arguments, **keywords)
        with torch.inference_mode(False):
            return function(*arguments, **keywords)

    return called


def supported(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is on a device on which the library computes, that is, one that has a backend."""
    return tensor.device.type in dispatch.BACKENDS


def readable(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's values can be read without waiting for a device."""
    return dispatch.on_host(tensor.device)


def checked_tensor(
    name: str,
    value: torch.Tensor,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | None],
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return a contiguous tensor, checked for dtype, shape (None: any length) and device (None: any with a backend).

    Raises:
        TypeError: ``value`` is not a tensor or has another dtype.
        ValueError: the shape or the device differs.
    """
    if (
        isinstance(value, torch.Tensor)
        and value.dtype in dtypes
        and (value.shape == shape or _fits(value.shape, shape))
        and (value.device == device if device else supported(value))
    ):
        return value.contiguous()
    lengths = ", ".join("any" if length is None else str(length) for length in shape)
    allowed = f"a tensor of {' or '.join(str(dtype) for dtype in dtypes)} [{lengths}] on {device or 'a CPU or a GPU'}"
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be {allowed}, got {type(value).__name__}")
    kind = ValueError if value.dtype in dtypes else TypeError
    raise kind(f"{name} must be {allowed}, got {value.dtype} {list(value.shape)} on {value.device}")


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Return whether a shape is the wanted one, in which None is any length."""
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))
