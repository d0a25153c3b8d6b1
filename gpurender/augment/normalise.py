"""Normalisation by look-up: a byte has 256 values, so (v / 255 - mean) / std is a table of 256 entries per channel."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gpurender.augment.parameters import Parameters, checked_canvases, on_device
from gpurender.kernels.resized_crop import begin_crop_resize_normalise
from gpurender.runtime.image_formats import DTYPES, ImageFormat
from gpurender.util import checks, device_tables

HALVES = (0.5, 0.5, 0.5)
CROP = ("boxes", "flips", "interpolations")  # names of a crop's parameters
MIN_STD, MAX_STD = 0.001, 1000.0  # 1 / 0.001 is far below the largest float16

Triple = tuple[float, float, float]


def checked_mean(mean: Any) -> Triple:
    """Return the checked means of the three channels, on the scale of 0 (black) to 1 (white)."""
    return _triple("mean", mean, 0.0, 1.0)


def checked_std(std: Any) -> Triple:
    """Return the checked standard deviations of the three channels, on the same scale; none is zero."""
    return _triple("std", std, MIN_STD, MAX_STD)


def _triple(name: str, value: Any, low: float, high: float) -> Triple:
    if not checks.is_sequence(value, 3):
        raise TypeError(
            f"{name} must be three numbers in [{low:g}, {high:g}], one a channel, got {checks.shown(value)}"
        )
    red, green, blue = (checks.real(f"{name}[{i}]", x, low, high) for i, x in enumerate(value))
    return red, green, blue


@device_tables.on_device
def lookup_table(mean: Triple, std: Triple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return (v / 255 - mean) / std by torchvision's steps in float32, cast to ``dtype``: ``[3, 256]`` on the device,
    or ``[1, 256]`` if the three channels have equal means and standard deviations.

    The table is computed once, kept, and read only: copying it to a GPU for every batch would wait for the GPU every
    time.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(str(d) for d in DTYPES)}, got {checks.shown(dtype)}")
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    if len(set(mean)) == len(set(std)) == 1:
        mean, std = mean[:1], std[:1]  # type: ignore[assignment]  # one look-up per pixel instead of three
    table = (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return torch.from_numpy(table).to(dtype).to(device)


def begin_crop(
    canvases: torch.Tensor, parameters: Parameters, image: ImageFormat, mean: Triple, std: Triple
) -> Callable[[], torch.Tensor]:
    """Apply boxes, flips and interpolations, and normalise, except for the last launch, which is returned.

    The last launch makes ``[N, 3, size, size]``: the float32 values of Pillow's crop, resize and flips and of
    torchvision's ToTensor and Normalize, cast to the format's dtype.
    """
    canvases = checked_canvases(canvases, parameters)
    boxes, flips, codes = on_device(parameters, CROP, canvases.device)
    table = lookup_table(mean, std, image.dtype, canvases.device)
    size = (image.size, image.size)
    return begin_crop_resize_normalise(canvases, boxes, flips, codes, table, size, image.memory_format)
