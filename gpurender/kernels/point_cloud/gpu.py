"""Point clouds on a GPU: grids and arguments of the kernels in ``gpu.cu``."""

import numpy as np
import torch

from gpurender.kernels.point_cloud.params import COTANGENT, SpaceSystems
from gpurender.numerics.streams import halves
from gpurender.runtime import cuda

THREADS = 128  # threads per block, one per segment of the chain


def render_clouds(
    systems: SpaceSystems, draw_ids: torch.Tensor, cameras: torch.Tensor, seed: int, points: int, size: int
) -> torch.Tensor:
    """Render images; uint8 [N, size, size]; arguments as in :func:`gpurender.kernels.point_cloud.render_clouds`."""
    device = systems.maps.device
    images = torch.zeros((len(systems), size, size), dtype=torch.uint8, device=device)
    low, high = halves(seed)
    cuda.launch(
        "point_cloud", "point_cloud_render", device=device, blocks=len(systems), threads=THREADS,
        arguments=(
            *_systems(systems), draw_ids.contiguous(), cameras.contiguous(), np.uint32(low), np.uint32(high),
            np.int32(points), np.int32(size), np.float32(0.5 * size * COTANGENT), images,
        ),
    )  # fmt: skip
    return images


def moments(systems: SpaceSystems, draw_ids: torch.Tensor, seed: int, points: int) -> torch.Tensor:
    """Measure clouds; int64 [N, 7]; arguments as in :func:`gpurender.kernels.point_cloud.moments`."""
    device = systems.maps.device
    found = torch.empty((len(systems), 7), dtype=torch.int64, device=device)
    low, high = halves(seed)
    cuda.launch(
        "point_cloud", "point_cloud_moments", device=device, blocks=len(systems), threads=THREADS,
        arguments=(
            *_systems(systems), draw_ids.contiguous(), np.uint32(low), np.uint32(high), np.int32(points), found,
        ),
    )  # fmt: skip
    return found


def _systems(systems: SpaceSystems) -> tuple[cuda.Argument, ...]:
    most = np.int32(systems.maps.shape[1])
    return systems.maps.contiguous(), systems.thresholds.contiguous(), systems.counts.contiguous(), most
