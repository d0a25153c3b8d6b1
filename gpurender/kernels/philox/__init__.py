"""Philox4x32-10 as array functions: random words of counters or draw ids, and uniform numbers from these words."""

from typing import overload

import numpy as np
import torch

from gpurender.kernels.philox.params import counters
from gpurender.numerics.streams import Stream, halves
from gpurender.runtime import dispatch, forks

__all__ = ["bounded", "counters", "philox", "uniform", "words"]


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the random words of the given counters (Random123's philox4x32-10).

    Args:
        counters: uint32 ``[n, 4]``.
        key: two integers in ``[0, 2**32)``.

    Returns:
        uint32 ``[n, 4]``.
    """
    if counters.dtype != np.uint32 or counters.ndim != 2 or counters.shape[1] != 4:
        raise ValueError(f"counters must be uint32 [n, 4], got {counters.dtype} {list(counters.shape)}")
    with forks.IMPORTS:
        from gpurender.kernels.philox import cpu  # NumPy arrays are in host memory

    return cpu.philox(counters, key)


@overload
def words(seed: int, stream: Stream, draw_ids: np.ndarray, blocks: int = 1) -> np.ndarray: ...


@overload
def words(seed: int, stream: Stream, draw_ids: torch.Tensor, blocks: int = 1) -> torch.Tensor: ...


def words(seed: int, stream: Stream, draw_ids: np.ndarray | torch.Tensor, blocks: int = 1) -> np.ndarray | torch.Tensor:
    """Return the random words at the addresses ``(seed, stream, draw id, block)`` for blocks ``0 .. blocks-1``.

    Args:
        seed: unsigned 64-bit key.
        draw_ids: uint64 ``[n]``, or a torch tensor, int64 ``[n]``, on any device.
        blocks: blocks per draw id, four words each.

    Returns:
        uint32 ``[n, 4 * blocks]``; for a tensor, int64 on the tensor's device.
    """
    if isinstance(draw_ids, torch.Tensor):
        return _words_of_tensor(seed, int(stream), draw_ids, blocks)
    draw_ids = np.asarray(draw_ids, dtype=np.uint64)
    drawn = philox(counters(draw_ids, int(stream), blocks), halves(seed))
    return drawn.reshape(len(draw_ids), 4 * blocks)


def _words_of_tensor(seed: int, stream: int, draw_ids: torch.Tensor, blocks: int) -> torch.Tensor:
    """Return :func:`words` of int64 ``[n]`` (the bits of uint64) on the tensor's device."""
    if draw_ids.dtype != torch.int64 or draw_ids.dim() != 1:
        raise ValueError(f"draw_ids must be int64 [n], got {draw_ids.dtype} {list(draw_ids.shape)}")
    return dispatch.implementation("philox", draw_ids.device).words(draw_ids.contiguous(), seed, stream, blocks)


@overload
def uniform(u: np.ndarray) -> np.ndarray: ...


@overload
def uniform(u: torch.Tensor) -> torch.Tensor: ...


def uniform(u: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Return uniform numbers in [0, 1) from words: ``(u >> 8) * 2**-24``, exact in float32, returned as float64."""
    if isinstance(u, torch.Tensor):
        return (u >> 8).to(torch.float64) * 2.0**-24
    return (np.asarray(u, dtype=np.uint32) >> np.uint32(8)).astype(np.float64) * 2.0**-24


@overload
def bounded(u: np.ndarray, n: np.ndarray | int) -> np.ndarray: ...


@overload
def bounded(u: torch.Tensor, n: torch.Tensor | int) -> torch.Tensor: ...


def bounded(u: np.ndarray | torch.Tensor, n: np.ndarray | torch.Tensor | int) -> np.ndarray | torch.Tensor:
    """Return integers in [0, n) from words by multiply-high, ``(u * n) >> 32``; int64; n <= 2**32 (tensors: 2**31)."""
    if isinstance(u, torch.Tensor):
        return u * n >> 32  # below 2**63
    wide = np.asarray(u, dtype=np.uint64) * np.asarray(n, dtype=np.uint64)
    return (wide >> np.uint64(32)).astype(np.int64)
