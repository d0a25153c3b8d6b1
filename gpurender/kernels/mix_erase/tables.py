"""The quantiles that erased pixels are drawn from, for the reference and, once a device, for GPUs."""

from functools import cache

import numpy as np
import torch

from gpurender.numerics.quantiles import half_normal


@cache
def normal(device: torch.device) -> torch.Tensor:
    """The table of :func:`gpurender.numerics.quantiles.half_normal` on a device, float32 ``[3970]``."""
    return torch.from_numpy(half_normal().astype(np.float32)).to(device)
