"""Compiling kernels ahead, for cluster nodes that start by the hundred, or without a writable home.

CUDA kernels need only an architecture, so a node without a GPU can compile them for those that have one, if they share
the cache directory (``GPURENDER_CACHE_DIR``). Triton's are compiled, and kept by Triton, for the GPU at hand.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from gpurender.runtime import cuda
from gpurender.runtime.devices import require_compilers
from gpurender.util.progress import progress


def architectures(names: Sequence[str]) -> list[str]:
    """The architectures to compile for: the given ones, or those of the GPUs that torch sees.

    Raises:
        ValueError: none is given and there is no GPU, or one is given that the compiler does not know.
        RuntimeError: CuPy is missing.
    """
    require_compilers()
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    wanted = list(dict.fromkeys(names or [cuda.architecture_of(gpu) for gpu in gpus]))
    known = cuda.supported_architectures()
    if not wanted:
        raise ValueError(f"--warm must name architectures where torch sees no GPU, some of {', '.join(known)}")
    for name in wanted:
        if name not in known and not (not names and name.startswith("compute_")):
            raise ValueError(f"--warm must name architectures of {', '.join(known)}, got {name!r}")
    return wanted


def warm(names: Sequence[str]) -> Iterator[tuple[str, str, Path | None]]:
    """Compile all CUDA kernels for the architectures and, where there are GPUs, all Triton kernels for these.

    Yields:
        operation, architecture, and the file that was kept or was there (``None``: it could not be kept).
    """
    jobs = [(operation, name) for name in architectures(names) for operation in cuda.OPERATIONS]
    with progress(total=len(jobs), desc="compile", unit="kernel") as bar:
        for operation, name in jobs:
            yield operation, name, cuda.cached(operation, name)
            bar.update()
    for index in range(torch.cuda.device_count()):
        draw_everything(torch.device("cuda", index))
        torch.cuda.synchronize(index)


def draw_everything(device: torch.device) -> None:
    """Draw a small batch of every family, augmentation, type and layout, which compiles what first use would."""
    from gpurender.augment import Crop, DeiT
    from gpurender.loading.data_loader import DataLoader
    from gpurender.recipes import Recipe

    # Canvases have the family's own side: Triton compiles for sides that 16 divides, and for others.
    small = [recipe for family in Recipe.families.values() if (recipe := family.smallest()) is not None]
    recipes = [dataclasses.replace(recipe, image_size=type(recipe).image_size) for recipe in small]
    everything: dict[str, Any] = {
        "force_color_jitter": True,
        "grayscale_prob": 0.5,
        "gaussian_blur_prob": 0.5,
        "re_count": (1, 2),
    }
    policies = [
        None, Crop(), Crop(interpolation="bilinear"), Crop(interpolation="random"), DeiT(), DeiT.onepfrac(),
        DeiT.visualatom(), DeiT.resnet(), DeiT(auto_augment="3a", re_mode="rand", interpolation="random"),
        DeiT(re_mode="const", mixup_mode="elem", **everything),
    ]  # fmt: skip
    for recipe in recipes:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for memory_format in (torch.contiguous_format, torch.channels_last):
                for policy in policies:
                    for shuffle in (False, True):
                        loader = DataLoader(
                            recipe, batch_size=32, augment=policy, shuffle=shuffle, device=device, dtype=dtype,
                            memory_format=memory_format,
                        )  # fmt: skip
                        next(iter(loader))
