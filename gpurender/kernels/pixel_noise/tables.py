"""The quantiles of the normal distribution in float32, on each device."""

import torch

from gpurender.numerics import quantiles
from gpurender.util import device_tables


@device_tables.on_device
def normal_quantiles(device: torch.device) -> torch.Tensor:
    """Return :func:`gpurender.numerics.quantiles.normal_quantiles`, rounded: float32 ``[3970]`` on a device."""
    return torch.from_numpy(quantiles.normal_quantiles()).float().to(device)
