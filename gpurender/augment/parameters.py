"""The parameters that a policy has drawn: tensors by name, and the sizes that they were drawn for."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from gpurender.kernels.resized_crop import MAX_SIDE, BitCanvases
from gpurender.runtime.tensors import checked_tensor
from gpurender.util import checks

Parameters = dict[str, torch.Tensor]


def size_stamp(n: int, canvas_size: int, image_size: int, device: torch.device) -> torch.Tensor:
    """Return the parameter ``sizes`` of n samples: an empty uint8 tensor of shape ``[N, 0, canvas_size, image_size]``.

    A shape follows the other parameters into slices, files and processes, and is read without waiting for the GPU that
    holds their values.
    """
    canvas = checks.integer("canvas_size", canvas_size, 1, MAX_SIDE)
    image = checks.integer("image_size", image_size, 1, MAX_SIDE)
    return torch.empty((n, 0, canvas, image), dtype=torch.uint8, device=device)


def checked_parameters(parameters: Any) -> Parameters:
    """Return the parameters; refuse an object that ``draw`` of a policy cannot have returned."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters must be what draw() returned, got {type(parameters).__name__}")
    return parameters  # type: ignore[return-value]  # any mapping is accepted


def checked_canvases(canvases: Any, parameters: Any, image_size: int | None = None) -> Any:
    """Return the canvases, if the parameters were drawn for canvases of their size and for images of ``image_size``.

    Args:
        canvases: uint8 ``[N, C, S, S]``, or ``BitCanvases`` from the loader.
        parameters: drawn parameters; if assembled by hand, without ``sizes``, they fit any size.
        image_size: side of the images in pixels; ``None``: not checked.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if not isinstance(canvases, BitCanvases):
        canvases = checked_tensor("canvases", canvases, (torch.uint8,), (None, None, None, None))
    sizes = checked_parameters(parameters).get("sizes")
    if sizes is None:
        return canvases
    *_, side, image = checked_tensor("parameters['sizes']", sizes, (torch.uint8,), (None, 0, None, None)).shape
    if canvases.shape[2:] != (side, side):
        got = f"shape {list(canvases.shape)}"
        raise ValueError(f"canvases must be {side} x {side}, which the parameters were drawn for, got {got}")
    if image_size not in (None, image):
        raise ValueError(f"image_size must be {image}, which the parameters were drawn for, got {image_size}")
    return canvases


def on_device(parameters: Parameters, names: Iterable[str], device: torch.device) -> list[torch.Tensor]:
    """Return the named parameters, which an ``apply`` needs, on the canvases' device.

    Raises:
        TypeError, ValueError: ``parameters`` is no mapping, or a parameter is missing or no tensor.
    """
    given, found = checked_parameters(parameters), []
    for name in names:
        if name not in given:
            raise ValueError(f"parameters must be what this policy's draw() returned, {name!r} is missing")
        if not isinstance(given[name], torch.Tensor):
            raise TypeError(f"parameters[{name!r}] must be a tensor, got {type(given[name]).__name__}")
        found.append(given[name].to(device))
    return found
