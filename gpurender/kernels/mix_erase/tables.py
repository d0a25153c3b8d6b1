"""The table of normal quantiles for the noise of erased pixels, computed once per device."""

from functools import cache

import numpy as np
import torch

from gpurender.numerics.quantiles import normal_quantiles


@cache
def normal(device: torch.device) -> torch.Tensor:
    """Return the table of :func:`gpurender.numerics.quantiles.normal_quantiles` on a device, float32 ``[3970]``."""
    return torch.from_numpy(normal_quantiles().astype(np.float32)).to(device)
