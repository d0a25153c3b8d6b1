"""One image operation, by timm's name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpurender.augment.resize import INTERPOLATIONS
from gpurender.kernels.image_ops import BY_NAME, Kind, Operation, apply_ops, checked_fill
from gpurender.runtime.tensors import ordinary, readable, supported
from gpurender.util import checks

__all__ = ["op"]


@ordinary
def op(
    name: str,
    images: torch.Tensor,
    argument: Any = None,
    *,
    fill: Sequence[int] = (128, 128, 128),
    interpolation: str = "bilinear",
) -> torch.Tensor:
    """Apply one image operation, by timm's name and with timm's meaning; the result is Pillow's, byte for byte.

    >>> turned = gr.augment.op("Rotate", images, 27.0)  # every image by 27 degrees, counter-clockwise
    >>> changed = gr.augment.op("ColorIncreasing", images, [0.1, 1.0, 1.9])  # three images, each by its own factor

    The names, and what the argument is:

    - ``AutoContrast``, ``Equalize``, ``Invert``: none
    - ``Rotate``: degrees
    - ``Posterize``, ``PosterizeIncreasing``, ``PosterizeOriginal``: bits to keep, 0 to 8 (0: black)
    - ``Solarize``, ``SolarizeIncreasing``: threshold: bytes at or above it are inverted
    - ``SolarizeAdd``: integer added to bytes below 128
    - ``Color``, ``Contrast``, ``Brightness``, ``Sharpness``, also with ``Increasing``: factor; 1 changes nothing
    - ``ShearX``, ``ShearY``: factor
    - ``TranslateX``, ``TranslateY``: pixels, to the left and up
    - ``TranslateXRel``, ``TranslateYRel``: the same as a fraction of the image's side
    - ``Desaturate``: fraction of the colour that is removed, 0 to 1
    - ``GaussianBlur``: radius in pixels, 0 to 64

    timm's ``GaussianBlurRand`` is not available, because it draws its radius itself.

    Args:
        name: one of the names above.
        images: uint8 ``[N, 3, H, W]``, or ``[N, 1, H, W]`` for grey images, on a CPU or a GPU.
        argument: the value that timm computes from a level: one number, or one per image: ``[N]``, a list, an array or
            a tensor. The values of a tensor on a GPU are not checked but clamped to their range there.
        fill: red, green and blue of pixels from beyond the image's edge, 0 to 255; for grey images a grey.
        interpolation: used by operations that move pixels: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.

    Returns:
        A new uint8 tensor of the images' shape on their device.

    Raises:
        TypeError, ValueError: naming the parameter, its value and what is allowed.
    """
    code = _code(name)
    filter_code = INTERPOLATIONS[checks.choice("interpolation", interpolation, tuple(INTERPOLATIONS))]
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
        got = f"{images.dtype} {list(images.shape)}" if isinstance(images, torch.Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor [N, 1 or 3, H, W], got {got}")
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {list(images.shape)}")
    colour = checked_fill(fill)
    if images.shape[1] == 1 and code.spec.kind is not Kind.AFFINE:
        colour = (0, 0, 0)  # nothing is filled in
    arguments = _arguments(name, code, argument, images)
    n, device = len(images), images.device
    operations = torch.full((n, 1), int(code), dtype=torch.int32, device=device)
    interpolations = torch.full((n, 1), filter_code, dtype=torch.uint8, device=device)
    return apply_ops(images, operations, arguments, interpolations, colour, (code,))


def _code(name: str) -> Operation:
    known = ", ".join(each for each in BY_NAME if each != "GaussianBlurRand")
    if not isinstance(name, str):
        raise TypeError(f"name must be one of {known}, got {checks.shown(name)}")
    if name == "GaussianBlurRand":
        raise ValueError("name must not be 'GaussianBlurRand', which draws its radius itself: use 'GaussianBlur'")
    if name not in BY_NAME:
        raise ValueError(f"name must be one of {known}, got {checks.shown(name)}")
    return BY_NAME[name]


def _arguments(name: str, code: Operation, argument: Any, images: torch.Tensor) -> torch.Tensor:
    """Return the argument of each image, float64 ``[N, 1]`` on the images' device."""
    n, device = len(images), images.device
    if code.spec.limits is None:
        if argument is not None:
            raise ValueError(f"argument must be None, which {name} takes, got {checks.shown(argument)}")
        return torch.zeros((n, 1), dtype=torch.float64, device=device)
    least, most = (0.0, 1.0) if name == "Desaturate" else code.spec.limits
    kind = "integers" if code.spec.whole else "numbers"
    allowed = f"{kind} in [{least:g}, {most:g}], one or one for each of the {n} images, for {name}"
    values = _values(argument, allowed)
    if values.dim() > 1 or (values.dim() == 1 and len(values) != n):
        raise ValueError(f"argument must be {allowed}, got shape {list(values.shape)}")
    values = values.to(torch.float64)
    if readable(values):
        bad = ~((values >= least) & (values <= most))  # NaN, too
        if code.spec.whole:
            bad |= values != values.trunc()
        if bad.any():
            raise ValueError(f"argument must be {allowed}, got {checks.shown(values[bad].flatten()[0].item())}")
    if name == "Desaturate":
        values = (1.0 - values).clamp(0.0, 1.0)
    return values.to(device).expand(n).reshape(n, 1)


def _values(argument: Any, allowed: str) -> torch.Tensor:
    """Return the argument as a tensor of numbers, of any shape, on a CPU or a GPU."""
    listed = argument if isinstance(argument, (list, tuple)) else [argument]
    if any(value is None or isinstance(value, (str, bytes, bytearray)) or checks.is_boolean(value) for value in listed):
        raise TypeError(f"argument must be {allowed}, got {checks.shown(argument)}")  # NumPy would convert some
    try:  # by NumPy, because torch would round Python's numbers to float32
        values = argument if isinstance(argument, torch.Tensor) else torch.from_numpy(np.array(argument))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"argument must be {allowed}, got {checks.shown(argument)}") from None
    if values.dtype == torch.bool or values.is_complex():
        raise TypeError(f"argument must be {allowed}, got {checks.shown(argument)}")
    if values.requires_grad:
        raise TypeError(
            f"argument must be {allowed}, without a gradient (argument.detach()), got {checks.shown(argument)}"
        )
    if not supported(values) or values.layout != torch.strided:
        got = f"a tensor of {values.layout} on {values.device}"
        raise ValueError(f"argument must be {allowed}, dense and on a CPU or a GPU, got {got}")
    return values
