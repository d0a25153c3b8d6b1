"""Warps on a GPU: arguments of the kernel in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.device import runs


def warped(image: torch.Tensor, coefficients: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Render copies; uint8 ``[N, C, S, S]``; as :func:`gpurender.kernels.warp.warped`; without a field G is 0."""
    count, (channels, size, _) = len(coefficients), image.shape
    images = torch.empty((count, channels, size, size), dtype=torch.uint8, device=image.device)
    sizes = np.int32(field.shape[2]), np.int32(channels), np.int32(size)
    runs.launch("warp", "warp_render", (image, coefficients, field, *sizes), images)
    return images
