"""The addresses of a batch: the indices of its samples, their draw ids and their labels."""

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
    """Return the indices at ``count`` successive positions of an epoch, with their draw ids and labels.

    After the end of the epoch, the positions continue at 0 of the same epoch. On a GPU this is one launch, which reads
    the cursor when it runs: replayed in a CUDA graph, the launch follows a cursor that is moved on the device.

    Args:
        cursor: int64 ``[2]``: epoch (0 to ``last_epoch(length)``) and first position (0 to ``length - 1``). On a
            GPU its values are not checked; outside these ranges the result is arbitrary.
        count: number of positions, 0 or more.
        length: samples per epoch, 1 to 2**62.
        seed: unsigned 64-bit key of the order.
        instances: samples per class, 1 to 2**62.
        shuffle: whether the epoch is permuted (:func:`permute`) or in order.
        repeats: number of successive positions with the same index, 1 or more.

    Returns:
        ``indices``, ``draw_ids`` = indices + epoch x length, ``labels`` = indices // instances: int64 ``[count]`` each,
        on the cursor's device.

    Raises:
        TypeError, ValueError: a wrong argument; the message has its name, its value and the allowed values.
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
