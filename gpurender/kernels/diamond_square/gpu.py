"""Diamond-square textures on a GPU: grid, scratch memory and arguments of the kernel in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.diamond_square.params import levels
from gpurender.numerics.streams import halves
from gpurender.runtime import cuda

THREADS = 256
BLOCKS = 4  # blocks per multiprocessor; each has heights of four bytes per point in global memory


def textures(parameters: torch.Tensor, draw_ids: torch.Tensor, seed: int, size: int, hue_unit: float) -> torch.Tensor:
    """Render textures; uint8 ``[N, 3, size, size]``; as :func:`gpurender.kernels.diamond_square.textures`."""
    device, count, last = parameters.device, len(parameters), levels(size)
    images = torch.empty((count, 3, size, size), dtype=torch.uint8, device=device)
    blocks, side = min(count, BLOCKS * cuda.limits(device).multiprocessors), (1 << last) + 1
    scratch = torch.empty((blocks, side, side), dtype=torch.float32, device=device)
    low, high = halves(seed)
    cuda.launch(
        "diamond_square", "diamond_square_render", device=device, blocks=blocks, threads=THREADS,
        arguments=(
            parameters, draw_ids, np.uint32(low), np.uint32(high), np.int32(size), np.int32(last), np.float32(hue_unit),
            np.int64(count), scratch, images,
        ),
    )  # fmt: skip
    return images
