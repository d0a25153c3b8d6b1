"""Collages on a GPU: grids and arguments of the kernels in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.collage.params import Objects
from gpurender.runtime import cuda

THREADS = 256
RUN = 1024  # pixels per block


def collages(objects: Objects, backgrounds: torch.Tensor, blurs: torch.Tensor, hue_unit: float) -> torch.Tensor:
    """Paste objects; uint8 ``[N, 3, S, S]``; arguments as in :func:`gpurender.kernels.collage.collages`."""
    device, (count, _, size, _) = backgrounds.device, backgrounds.shape
    parts = -(-size * size // RUN)
    pasted, images = torch.empty_like(backgrounds), torch.empty_like(backgrounds)
    each = len(objects) // max(count, 1)
    cuda.launch(
        "collage", "collage_paste", device=device, blocks=count * parts, threads=THREADS,
        arguments=(
            objects.densities.contiguous(), objects.orientations.contiguous(), objects.colours.contiguous(),
            objects.places.contiguous(), np.int32(each), np.int32(objects.densities.shape[1]), np.float32(hue_unit),
            backgrounds, np.int32(size), np.int32(RUN), np.int32(parts), pasted,
        ),
    )  # fmt: skip
    cuda.launch(
        "collage", "collage_blur", device=device, blocks=count * parts, threads=THREADS,
        arguments=(pasted, blurs, np.int32(size), np.int32(RUN), np.int32(parts), images),
    )  # fmt: skip
    return images
