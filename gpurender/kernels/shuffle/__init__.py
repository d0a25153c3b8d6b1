"""The addresses of a batch: which samples it draws, with which draw numbers, of which classes."""

import torch

from gpurender.kernels.shuffle.cpu import permute
from gpurender.kernels.shuffle.params import MAX_LENGTH, last_epoch
from gpurender.runtime import dispatch
from gpurender.util import checks

__all__ = ["MAX_LENGTH", "addresses", "last_epoch", "permute"]

MAX_COUNT = 2**31 - 1


def addresses(
    cursor: torch.Tensor, count: int, *, length: int, seed: int, instances: int, shuffle: bool, repeats: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The samples at ``count`` positions of an epoch, one after the other, and what belongs to them.

    Where the epoch ends, the positions begin again at 0. On a GPU this is one launch that reads the cursor when it
    runs: replayed in a CUDA graph, it follows a cursor that is moved on the device.

    Args:
        cursor: int64 ``[2]``: epoch (0 to ``last_epoch(length)``) and first position (0 to ``length - 1``). On a
            GPU its values are not looked at; outside these ranges the result is arbitrary.
        count: positions, 0 or more.
        length: samples of an epoch, 1 to 2**62.
        seed: unsigned 64-bit key of the order.
        instances: samples of a class, 1 to 2**62.
        shuffle: whether the epoch is permuted (:func:`permute`) or in order.
        repeats: positions in a row that have one sample, 1 or more.

    Returns:
        ``samples``, ``numbers`` = samples + epoch x length, ``labels`` = samples // instances: int64 ``[count]`` each,
        on the cursor's device.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if not isinstance(cursor, torch.Tensor) or cursor.dtype != torch.int64 or cursor.shape != (2,):
        got = f"{cursor.dtype} {list(cursor.shape)}" if isinstance(cursor, torch.Tensor) else type(cursor).__name__
        raise TypeError(f"cursor must be an int64 tensor [2], got {got}")
    count = checks.integer("count", count, 0, MAX_COUNT)
    length = checks.integer("length", length, 1, MAX_LENGTH)
    seed = checks.integer("seed", seed, 0, checks.UINT64_MAX)
    instances = checks.integer("instances", instances, 1, MAX_LENGTH)
    shuffle = checks.boolean("shuffle", shuffle)
    repeats = checks.integer("repeats", repeats, 1, MAX_COUNT)
    implementation = dispatch.implementation("shuffle", cursor.device)
    return implementation.addresses(cursor, count, length, seed, instances, shuffle, repeats)
