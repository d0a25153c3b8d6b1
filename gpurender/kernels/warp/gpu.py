"""Warps on a GPU: grid and arguments of the kernel in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.runtime import cuda

THREADS = 256
RUN = 1024  # pixels per block


def warped(image: torch.Tensor, coefficients: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Render copies; uint8 ``[N, C, S, S]``; as :func:`gpurender.kernels.warp.warped`; without a field G is 0."""
    count, (channels, size, _) = len(coefficients), image.shape
    images = torch.empty((count, channels, size, size), dtype=torch.uint8, device=image.device)
    parts = -(-size * size // RUN)
    cuda.launch(
        "warp", "warp_render", device=image.device, blocks=count * parts, threads=THREADS,
        arguments=(
            image, coefficients, field, np.int32(field.shape[2]), np.int32(channels), np.int32(size), np.int32(RUN),
            np.int32(parts), images,
        ),
    )  # fmt: skip
    return images
