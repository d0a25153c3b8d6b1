"""Collages on a GPU: arguments of the kernels in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.collage.params import Objects
from gpurender.kernels.device import runs


def collages(objects: Objects, backgrounds: torch.Tensor, blurs: torch.Tensor, hue_unit: float) -> torch.Tensor:
    """Paste objects; uint8 ``[N, 3, S, S]``; arguments as in :func:`gpurender.kernels.collage.collages`."""
    pasted, images, size = torch.empty_like(backgrounds), torch.empty_like(backgrounds), np.int32(backgrounds.shape[2])
    each = len(objects) // max(len(images), 1)
    drawn = (
        objects.densities.contiguous(), objects.orientations.contiguous(), objects.colours.contiguous(),
        objects.places.contiguous(), np.int32(each), np.int32(objects.densities.shape[1]), np.float32(hue_unit),
    )  # fmt: skip
    runs.launch("collage", "collage_paste", (*drawn, backgrounds, size), pasted)
    runs.launch("collage", "collage_blur", (pasted, blurs, size), images)
    return images
