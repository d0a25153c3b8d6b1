"""A trace of a loader: what it does, when, on the host and on the GPU, for Perfetto or Chrome."""

import os
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from gpurender.augment.named import policy as named
from gpurender.benchmark.measure import IMAGE_SIZE, endless
from gpurender.recipes.base import RecipeLike
from gpurender.runtime import devices
from gpurender.util import checks
from gpurender.util.atomic_files import check_writable, replacing

BATCHES = 8  # that are traced
WARM_UP = 8  # before them: the first compiles, the third captures a graph


def trace(
    recipe: RecipeLike,
    output: str | os.PathLike[str],
    *,
    device: Any = None,
    batch_size: int = 256,
    augment: str = "crop",
) -> int:
    """Write a trace of the loader's batches as JSON in Chrome's format; return how many batches it shows.

    Each stage of ``loader.stats()`` is a range named ``gpurender: …``; on a GPU, kernels stand below the launches.

    Args:
        recipe: any argument of ``gr.recipe``.
        output: the file, ``NAME.json``.
        device: that renders; ``None``: the GPU if there is one.
        batch_size: images per batch, 1 to 65,536.
        augment: name of the policy.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    from gpurender.loading.data_loader import DataLoader

    path = checks.path("output", output)
    if path.suffix.lower() != ".json":
        raise ValueError(f"output must end in .json, got {str(path)!r}")
    where = devices.resolve(device)
    loader = DataLoader(
        recipe, batch_size=checks.integer("batch_size", batch_size, 1, 65_536), image_size=IMAGE_SIZE,
        augment=named(augment), shuffle=True, device=where,
    )  # fmt: skip
    check_writable(str(path))
    batches = endless(loader)
    for _ in range(WARM_UP):
        next(batches)
    loader.measured = True  # which names the stages
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * devices.on_gpu(where)
    with profile(activities=activities) as watched:
        for _ in range(BATCHES):
            next(batches)
        if devices.on_gpu(where):
            torch.cuda.synchronize(where)
    with replacing(path) as temporary:
        watched.export_chrome_trace(temporary)
    return BATCHES
