"""Noise of independent pixels on a GPU: arguments of the kernel in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.device import runs
from gpurender.kernels.pixel_noise.tables import normal_quantiles
from gpurender.numerics.streams import halves


def pixels(coefficients: torch.Tensor, draw_ids: torch.Tensor, normal: bool, seed: int, size: int) -> torch.Tensor:
    """Render noise; uint8 ``[N, 3, size, size]``; as :func:`gpurender.kernels.pixel_noise.pixels`."""
    device, (low, high) = coefficients.device, halves(seed)
    images = torch.empty((len(coefficients), 3, size, size), dtype=torch.uint8, device=device)
    key = np.uint32(low), np.uint32(high)
    arguments = coefficients, draw_ids, np.int32(normal), normal_quantiles(device), *key, np.int32(size * size)
    runs.launch("pixel_noise", "pixel_noise_render", arguments, images)
    return images
