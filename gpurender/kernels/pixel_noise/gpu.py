"""Noise of independent pixels on a GPU: grid and arguments of the kernel in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.pixel_noise.tables import normal_quantiles
from gpurender.numerics.streams import halves
from gpurender.runtime import cuda

THREADS = 256
RUN = 1024  # pixels per block


def pixels(coefficients: torch.Tensor, draw_ids: torch.Tensor, normal: bool, seed: int, size: int) -> torch.Tensor:
    """Render noise; uint8 ``[N, 3, size, size]``; as :func:`gpurender.kernels.pixel_noise.pixels`."""
    device, count, parts = coefficients.device, len(coefficients), -(-size * size // RUN)
    images = torch.empty((count, 3, size, size), dtype=torch.uint8, device=device)
    low, high = halves(seed)
    cuda.launch(
        "pixel_noise", "pixel_noise_render", device=device, blocks=count * parts, threads=THREADS,
        arguments=(
            coefficients, draw_ids, np.int32(normal), normal_quantiles(device), np.uint32(low), np.uint32(high),
            np.int32(size * size), np.int32(RUN), np.int32(parts), images,
        ),
    )  # fmt: skip
    return images
