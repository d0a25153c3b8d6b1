"""The quantiles that erased pixels are drawn from, for the reference and, once a device, for GPUs."""

from functools import cache

import numpy as np
import torch

from gpurender.numerics.quantiles import normal_quantiles


@cache
def normal(device: torch.device) -> torch.Tensor:
    """The table of :func:`gpurender.numerics.quantiles.normal_quantiles` on a device, float32 ``[3970]``."""
    return torch.from_numpy(normal_quantiles().astype(np.float32)).to(device)
