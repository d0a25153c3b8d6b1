"""Compiling kernels in advance, for cluster nodes that start by the hundred or have no writable home directory.

CUDA kernels need only an architecture, so a node without a GPU can compile them for nodes with GPUs, if all share the
cache directory (``GPURENDER_CACHE_DIR``). Triton kernels are compiled only for the machine's GPUs; Triton keeps them.
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
    """Return the architectures to compile for: the given ones, or those of the GPUs that torch sees.

    Raises:
        ValueError: no architecture is given and there is no GPU, or the compiler does not know a given one.
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
    """Compile all CUDA kernels for the architectures and, if the machine has GPUs, all Triton kernels for these GPUs.

    Yields:
        Operation, architecture, and the file that was written or already existed (``None``: it could not be kept).
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
    """Render small batches of all families, policies, dtypes and memory formats; this compiles what first use would."""
    from gpurender.augment import Crop, DeiT
    from gpurender.loading.data_loader import DataLoader
    from gpurender.recipes import Recipe

    # Canvases have the family's default side: Triton compiles sides that are multiples of 16 and others separately.
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
