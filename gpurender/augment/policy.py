"""What an augmentation policy is: a value with two pure functions, draw and apply."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from gpurender.kernels.resized_crop import MAX_SIDE
from gpurender.runtime import devices
from gpurender.runtime.tensors import checked_tensor
from gpurender.util import checks

Parameters = dict[str, torch.Tensor]
LAUNCHING = ("draw", "apply", "targets")  # methods whose launches a graph may hold


def gpu_numbers(numbers: Any) -> torch.Tensor | None:
    """Draw numbers that lie on a GPU as int64 ``[N]``, or ``None``: these numbers are the CPU's.

    Their values are not looked at, which would wait for the GPU; a negative number stands for the unsigned one of
    its bits.
    """
    if not isinstance(numbers, torch.Tensor) or not devices.on_gpu(numbers.device):
        return None
    if numbers.dim() > 1 or numbers.dtype.is_floating_point or numbers.dtype.is_complex or numbers.dtype == torch.bool:
        raise TypeError(f"numbers must be integers, one or a list, got {numbers.dtype} {list(numbers.shape)}")
    return numbers.reshape(-1).to(torch.int64)


def as_numbers(numbers: Any) -> torch.Tensor:
    """Draw numbers as int64 ``[N]``, on the GPU if they lie there, else on the CPU (the bits of the unsigned ones)."""
    there = gpu_numbers(numbers)
    if there is not None:
        return there
    return torch.from_numpy(checks.integers("numbers", numbers, checks.UINT64_MAX).view(np.int64))


def drawn_for(n: int, canvas_size: int, image_size: int, device: torch.device) -> torch.Tensor:
    """The parameter ``sizes`` of n samples: no value, but a shape, uint8 ``[N, 0, canvas_size, image_size]``.

    A shape goes wherever the other parameters go, into slices, files and processes, and is read without waiting for
    the GPU that the values lie on.
    """
    canvas = checks.integer("canvas_size", canvas_size, 1, MAX_SIDE)
    image = checks.integer("image_size", image_size, 1, MAX_SIDE)
    return torch.empty((n, 0, canvas, image), dtype=torch.uint8, device=device)


def checked_parameters(parameters: Any) -> Parameters:
    """Refuse what :meth:`Policy.draw` cannot have returned."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters must be what draw() returned, got {type(parameters).__name__}")
    return parameters  # type: ignore[return-value]  # any mapping will do


def checked_canvases(canvases: Any, parameters: Any, image_size: int | None = None) -> torch.Tensor:
    """Canvases, if the parameters were drawn for their size, and for that of the images.

    Args:
        canvases: uint8 ``[N, C, S, S]``.
        parameters: that were drawn; put together by hand, without ``sizes``, they fit any size.
        image_size: ``None``: of no account.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
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
    """Those of the drawn parameters that an ``apply`` needs, on the canvases' device.

    Raises:
        TypeError, ValueError: these are no parameters, or one is missing or no tensor.
    """
    given, found = checked_parameters(parameters), []
    for name in names:
        if name not in given:
            raise ValueError(f"parameters must be what this policy's draw() returned, {name!r} is missing")
        if not isinstance(given[name], torch.Tensor):
            raise TypeError(f"parameters[{name!r}] must be a tensor, got {type(given[name]).__name__}")
        found.append(given[name].to(device))
    return found


def capturable(policy: Any) -> bool:
    """Whether a policy says so (see :class:`Policy`), of the methods that it has and not of those it has overridden."""
    if not getattr(policy, "capturable", False):
        return False
    for kind in type(policy).__mro__:
        if "capturable" in vars(kind):
            return True
        if any(name in vars(kind) for name in LAUNCHING):
            return "capturable" in getattr(policy, "__dict__", {})
    return True


@runtime_checkable
class Policy(Protocol):
    """A policy is data; drawing is separate from applying, so that parameters can be looked at, stored and replayed.

    A policy may have more, which the loader then uses:

    - ``targets(labels, parameters, classes)``: the targets of a batch, in the place of its labels;
    - ``num_aug_repeats``: how often in a row a sample is shown;
    - ``at_epoch(epoch)``, ``unmixed()``: the policy of an epoch; the policy while ``loader.mixup_enabled`` is False;
    - ``check_sizes(canvas_size, image_size)``: an error, if nothing can be drawn for these sizes;
    - ``capturable``: True says that on a GPU ``draw``, ``apply`` and ``targets`` launch the same kernels for all
      batches of a size, and neither wait for the GPU nor read from it (``.item()``, ``int(t)``, ``t[mask]``,
      ``if t.any():``) nor copy to it from the host. Then the loader captures them in a CUDA graph, which spares the
      host its time. Without it they are launched one by one. A class that overrides one of the three says it anew.
    """

    def draw(self, numbers: Any, *, seed: int = 0, canvas_size: int = 512, image_size: int = 224) -> Parameters:
        """Every parameter of every sample: a pure function of ``(seed, number)``, the same bits on every machine.

        Args:
            numbers: unsigned 64-bit draw numbers ``[N]``: an int, a list, a NumPy array or a torch tensor of integers.
            seed: unsigned 64-bit key.
            canvas_size, image_size: sides of the canvases and of the images in pixels.

        Returns:
            Tensors, all with N as their first length: on the device of numbers that are a tensor on a GPU (then nothing
            waits for it, and the bits are the same), else on the CPU.
        """
        ...

    def apply(
        self,
        canvases: torch.Tensor,
        parameters: Parameters,
        *,
        image_size: int = 224,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> torch.Tensor:
        """Canvases uint8 ``[N, 1 or 3, S, S]`` to normalised images ``[N, 3, image_size, image_size]`` of ``dtype``.

        Canvases and parameters are on one device, and so are the images, in either memory format of images.
        """
        ...
