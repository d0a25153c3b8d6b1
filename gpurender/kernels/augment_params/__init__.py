"""The random parameters of augmentation: crops, layers of operations, jitter, mixing, erasing.

Each draw is a pure function of the seed and the draw ids, gives the same bits on every device, and runs on the device
of the draw ids. The module docstrings of the references, ``cpu_*.py`` and ``jitter.py``, have the formulas and the
addresses of randomness.

All functions take:
    draw_ids: int64 ``[N]`` on any device, the bits of unsigned integers (:func:`as_draw_ids`).
    seed: unsigned 64-bit key.
    params: parameters of the distributions.

They return tensors on the draw ids' device. On a GPU the host does not wait for the results.

Raises:
    TypeError, ValueError: naming the argument, its value and what is allowed.
"""

from typing import Any

import numpy as np
import torch

from gpurender.kernels.augment_params import jitter
from gpurender.kernels.augment_params.params import (
    MIXUP_MODES,
    CropParams,
    ErasingParams,
    JitterParams,
    LayerOp,
    LayerParams,
    Level,
    MixParams,
)
from gpurender.kernels.resized_crop.params import MAX_SIDE
from gpurender.runtime import dispatch
from gpurender.runtime.tensors import checked_tensor, readable
from gpurender.util import checks

__all__ = [
    "MIXUP_MODES",
    "CropParams",
    "ErasingParams",
    "JitterParams",
    "LayerOp",
    "LayerParams",
    "Level",
    "MixParams",
    "as_draw_ids",
    "draw_crops",
    "draw_erasing",
    "draw_jitter",
    "draw_layers",
    "draw_mixing",
]


def as_draw_ids(numbers: Any) -> torch.Tensor:
    """Return draw ids as int64 ``[N]``, the bits of unsigned integers: on the GPU for a tensor on it, else on the CPU.

    Args:
        numbers: draw ids, unsigned 64-bit integers: one, a list, a NumPy array or a torch tensor. The values of a GPU
            tensor are not checked, because reading them would make the host wait; a negative value stands for the
            unsigned integer with the same bits.
    """
    if not isinstance(numbers, torch.Tensor) or readable(numbers):
        return torch.from_numpy(checks.integers("numbers", numbers, checks.UINT64_MAX).view(np.int64))
    if numbers.dim() > 1 or numbers.dtype.is_floating_point or numbers.dtype.is_complex or numbers.dtype == torch.bool:
        raise TypeError(f"numbers must be integers, one or a list, got {numbers.dtype} {list(numbers.shape)}")
    return numbers if numbers.dtype == torch.int64 and numbers.dim() else numbers.reshape(-1).to(torch.int64)


def draw_crops(
    draw_ids: torch.Tensor, seed: int, canvas_size: int, params: CropParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw crops, flips and interpolations.

    Args:
        canvas_size: side of the canvases in pixels.

    Returns:
        Boxes int32 ``[N, 4]``: top, left, height, width; flips bool ``[N, 2]``: horizontal, vertical; interpolations
        uint8 ``[N]``: 0 nearest, 1 bilinear, 2 bicubic.
    """
    draw_ids, seed = _checked(draw_ids, seed)
    side = checks.integer("canvas_size", canvas_size, 1, MAX_SIDE)
    return dispatch.implementation("augment_params", draw_ids.device, "crop").draw_crops(draw_ids, seed, side, params)


def draw_layers(
    draw_ids: torch.Tensor, seed: int, params: LayerParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw the operations of RandAugment, AutoAugment or 3-Augment.

    Returns:
        Operations int32 (0 where none is applied), arguments float64, interpolations uint8, each ``[N, layers * D]``
        for alternatives of D operations.
    """
    draw_ids, seed = _checked(draw_ids, seed)
    return dispatch.implementation("augment_params", draw_ids.device, "layers").draw_layers(draw_ids, seed, params)


def draw_jitter(draw_ids: torch.Tensor, seed: int, params: JitterParams) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the operations of colour jitter: the components in random order, then grayscale, then blur.

    Returns:
        Operations int32 and arguments float64, each ``[N, params.layers]``.
    """
    return jitter.draw_jitter(*_checked(draw_ids, seed), params)


def draw_mixing(
    draw_ids: torch.Tensor, seed: int, image_size: int, params: MixParams
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw the weights and the patches of mixup and CutMix.

    Args:
        draw_ids: draw ids of a whole batch, in its order: image n is mixed with image N - 1 - n.
        image_size: side of the images in pixels.
        params: parameters that are ``active``.

    Returns:
        Weights float64 ``[N]``: the image's own fraction of its target and, in mixup, of its pixels; cut bool ``[N]``:
        whether CutMix is applied; patches int32 ``[N, 4]``: top, left, height, width, 0 where nothing is cut.
    """
    draw_ids, seed = _checked(draw_ids, seed)
    size = checks.integer("image_size", image_size, 1, MAX_SIDE)
    return dispatch.implementation("augment_params", draw_ids.device, "mixup").draw_mixing(draw_ids, seed, size, params)


def draw_erasing(
    draw_ids: torch.Tensor, seed: int, image_size: int, params: ErasingParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the boxes of random erasing and the keys of their noise.

    Args:
        image_size: side of the images in pixels.

    Returns:
        Boxes int32 ``[N, K, 4]``: top, left, height, width, all 0 where there is no box; Philox keys int64 ``[N]``.
    """
    draw_ids, seed = _checked(draw_ids, seed)
    size = checks.integer("image_size", image_size, 1, MAX_SIDE)
    return dispatch.implementation("augment_params", draw_ids.device, "erasing").draw_erasing(
        draw_ids, seed, size, params
    )


def _checked(draw_ids: torch.Tensor, seed: int) -> tuple[torch.Tensor, int]:
    """Check draw ids and a seed, and return them, the draw ids contiguous."""
    draw_ids = checked_tensor("draw_ids", draw_ids, (torch.int64,), (None,))
    return draw_ids, checks.integer("seed", seed, 0, checks.UINT64_MAX)
