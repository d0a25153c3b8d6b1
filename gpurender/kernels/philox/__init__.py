"""Philox4x32-10 as an array function: counters or draw numbers in, random words out."""

import numpy as np
import torch

from gpurender.runtime import devices, forks

__all__ = ["counters", "philox", "words"]


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Random words of the given counters (Random123's philox4x32-10).

    Args:
        counters: uint32 ``[n, 4]``.
        key: two integers in ``[0, 2**32)``.

    Returns:
        uint32 ``[n, 4]``.
    """
    with forks.IMPORTS:
        from gpurender.kernels.philox import cpu

    if counters.dtype != np.uint32 or counters.ndim != 2 or counters.shape[1] != 4:
        raise ValueError(f"counters must be uint32 [n, 4], got {counters.dtype} {list(counters.shape)}")
    out = np.empty_like(counters)
    cpu.fill(np.ascontiguousarray(counters), np.uint32(key[0]), np.uint32(key[1]), out)
    return out


def words(numbers: torch.Tensor, seed: int, stream: int, blocks: int) -> torch.Tensor:
    """Random words at the addresses ``(seed, stream, number, block)`` for blocks ``0 .. blocks-1``.

    Args:
        numbers: int64 ``[n]``, 0 or more (their bits are the unsigned number's).
        seed: unsigned 64-bit key.
        stream: unsigned 32-bit purpose.
        blocks: blocks drawn of every number, four words each.

    Returns:
        int64 ``[n, 4 * blocks]`` in ``[0, 2**32)``, on the numbers' device.
    """
    if numbers.dtype != torch.int64 or numbers.dim() != 1:
        raise ValueError(f"numbers must be int64 [n], got {numbers.dtype} {list(numbers.shape)}")
    if devices.on_gpu(numbers.device):
        from gpurender.kernels.philox import gpu

        return gpu.words(numbers.contiguous(), seed, stream, blocks)
    drawn = philox(counters(numbers.numpy().view(np.uint64), stream, blocks), (seed & 0xFFFFFFFF, seed >> 32))
    return torch.from_numpy(drawn.astype(np.int64)).reshape(len(numbers), 4 * blocks)


def counters(numbers: np.ndarray, stream: int, blocks: int) -> np.ndarray:
    """Counters (block, stream, number low, number high) of numbers uint64 ``[n]``: uint32 ``[n * blocks, 4]``."""
    out = np.empty((len(numbers), blocks, 4), dtype=np.uint32)
    out[:, :, 0] = np.arange(blocks, dtype=np.uint32)
    out[:, :, 1] = np.uint32(stream)
    out[:, :, 2] = (numbers & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None]
    out[:, :, 3] = (numbers >> np.uint64(32)).astype(np.uint32)[:, None]
    return out.reshape(-1, 4)
