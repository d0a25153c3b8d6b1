"""Runs: kernels of which a block renders a run of the pixels of one image (``runs.cuh``)."""

from typing import Any

import numpy as np
import torch

from gpurender.runtime import cuda

THREADS = 256
RUN = 1024  # pixels per block


def launch(operation: str, kernel: str, arguments: tuple[Any, ...], images: torch.Tensor) -> None:
    """Launch a kernel whose last three arguments are the pixels of a run, the runs of an image, and the images.

    ``images``: ``[N, C, H, W]``, on the GPU.
    """
    parts = -(-images.shape[2] * images.shape[3] // RUN)
    cuda.launch(
        operation, kernel, device=images.device, blocks=len(images) * parts, threads=THREADS,
        arguments=(*arguments, np.int32(RUN), np.int32(parts), images),
    )  # fmt: skip
