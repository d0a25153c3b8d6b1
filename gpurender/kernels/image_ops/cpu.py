"""Chains of operations in Numba, the reference: Pillow's results, byte for byte.

Each sample's chain is run to its end before the next sample's, so that its image stays in the cache. The operations
are in files of their own, with their formulas, and are compiled when the first image needs them:

    cpu_pointwise.py  bytes where they are: tables of 256 entries, COLOR, HUE
    cpu_filters.py    bytes and their neighbours: SHARPNESS, the blurs
    cpu_affine.py     bytes from elsewhere: rotation, shear, translation
"""

from collections.abc import Callable

import numpy as np
import torch

from gpurender.kernels.image_ops import AFFINE, POINT, Operation, cpu_affine, cpu_filters, cpu_pointwise
from gpurender.kernels.image_ops.matrices import coefficients
from gpurender.kernels.resized_crop import BICUBIC, NEAREST
from gpurender.numerics.portable_math import exp
from gpurender.runtime.threads import parallel_ranges

Change = Callable[[np.ndarray, np.ndarray], None]  # from an image uint8 [C, H, W] to another


def operate(
    images: torch.Tensor,
    operations: torch.Tensor,
    arguments: torch.Tensor,
    interpolations: torch.Tensor,
    fill: tuple[int, int, int],
) -> torch.Tensor:
    """``gpurender.kernels.image_ops.operate`` of checked arguments."""
    source, out = images.numpy(), np.empty(images.shape, np.uint8)
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
    """The steps one after the other, to and fro between two scratch images, the last one into out."""
    if not steps:
        out[...] = image
    for i, step in enumerate(steps):
        target = out if i == len(steps) - 1 else scratch[i % 2]
        step(image, target)
        image = target


def change_of(code: int, argument: float, interpolation: int, matrix: np.ndarray, fill: np.ndarray) -> Change:
    """The kernel of an operation, with its arguments."""
    if code in POINT:
        return lambda image, out: cpu_pointwise.look_up(image, code, argument, out)
    if code in AFFINE:
        if interpolation == NEAREST:
            return lambda image, out: cpu_affine.nearest(image, matrix, fill, out)
        return lambda image, out: cpu_affine.interpolate(image, matrix, interpolation == BICUBIC, fill, out)
    if code in (Operation.COLOR, Operation.HUE):
        return _across_bands(code, argument)
    if code == Operation.SHARPNESS:
        return lambda image, out: cpu_filters.sharpness(image, argument, out)
    if code == Operation.GAUSSIAN_BLUR:
        return lambda image, out: cpu_filters.gaussian_blur(image, argument, out)
    base = float(exp(-1.0 / (2.0 * argument * argument)))
    return lambda image, out: cpu_filters.gaussian_kernel(image, base, out)


def _across_bands(code: int, argument: float) -> Change:
    """COLOR or HUE, which leave an image of one band as it is."""
    change = cpu_pointwise.color if code == Operation.COLOR else cpu_pointwise.hue

    def of_bands(image: np.ndarray, out: np.ndarray) -> None:
        if len(image) == 1:
            out[...] = image
        else:
            change(image, argument, out)

    return of_bands
