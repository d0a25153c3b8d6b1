"""Chains of operations in Numba, the reference: Pillow's results, byte for byte.

Each sample's chain is run to its end before the next sample's, so that its image stays in the cache. The operations
are in separate files, with their formulas, and are compiled when the first image needs them:

    cpu_pointwise.py  pixels by themselves: tables of 256 entries, COLOR, HUE
    cpu_filters.py    pixels and their neighbours: SHARPNESS, the blurs
    cpu_affine.py     pixels from elsewhere: rotation, shear, translation
"""

from collections.abc import Callable, Collection

import numpy as np
import torch

from gpurender.kernels.image_ops import cpu_affine, cpu_filters, cpu_pointwise
from gpurender.kernels.image_ops.cpu_matrices import coefficients
from gpurender.kernels.image_ops.ops import Kind, Operation
from gpurender.kernels.resized_crop import BICUBIC, NEAREST
from gpurender.runtime import host_memory
from gpurender.runtime.threads import parallel_ranges

FILES = {Kind.PIXEL: cpu_pointwise, Kind.STENCIL: cpu_filters, Kind.BLUR: cpu_filters}
Change = Callable[[np.ndarray, np.ndarray], None]  # from an image uint8 [C, H, W] to another


def apply_ops(
    images: torch.Tensor,
    operations: torch.Tensor,
    arguments: torch.Tensor,
    interpolations: torch.Tensor,
    fill: tuple[int, int, int],
    _possible: Collection[Operation],
) -> torch.Tensor:
    """Do ``gpurender.kernels.image_ops.apply_ops`` on the CPU; the arguments are checked.

    ``_possible`` only saves launches on a GPU.
    """
    source, out = images.numpy(), host_memory.empty(images.shape, np.uint8)
    height, width = source.shape[2:]
    matrices = coefficients(operations, arguments, height, width).numpy()  # [N, L, 6]
    chains = (operations.numpy(), arguments.numpy(), interpolations.numpy())
    colour = np.array(fill, np.uint8)

    def work(start: int, stop: int) -> None:
        scratch = np.empty((2, *source.shape[1:]), np.uint8)
        for n in range(start, stop):
            codes, values, filters = (given[n] for given in chains)
            steps = [
                change_of(int(codes[i]), float(values[i]), int(filters[i]), matrices[n, i], colour)
                for i in np.flatnonzero(codes)
            ]
            run([step for step in steps if step is not None], source[n], scratch, out[n])

    parallel_ranges(len(out), work)
    return torch.from_numpy(out)


def run(steps: list[Change], image: np.ndarray, scratch: np.ndarray, out: np.ndarray) -> None:
    """Run the steps in order, alternating between two scratch images; the last step writes ``out``."""
    if not steps:
        out[...] = image
    for i, step in enumerate(steps):
        target = out if i == len(steps) - 1 else scratch[i % 2]
        step(image, target)
        image = target


def change_of(code: int, argument: float, interpolation: int, matrix: np.ndarray, fill: np.ndarray) -> Change:
    """Return an operation with its arguments; its function in the file of its kind has its name in lower case."""
    operation = Operation(code)
    kind = operation.spec.kind
    if kind == Kind.LUT:
        return lambda image, out: cpu_pointwise.look_up(image, code, argument, out)
    if kind == Kind.AFFINE:
        if interpolation == NEAREST:
            return lambda image, out: cpu_affine.nearest(image, matrix, fill, out)
        return lambda image, out: cpu_affine.interpolate(image, matrix, interpolation == BICUBIC, fill, out)
    function = getattr(FILES[kind], operation.name.lower())

    def change(image: np.ndarray, out: np.ndarray) -> None:
        if kind == Kind.PIXEL and len(image) == 1:
            out[...] = image
        else:
            function(image, argument, out)

    return change
