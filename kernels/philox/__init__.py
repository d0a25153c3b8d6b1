"""Philox4x32-10 as an array function: counters in, random words out."""

import numpy as np

__all__ = ["philox"]


def philox(counters: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Random words of the given counters (Random123's philox4x32-10).

    Args:
        counters: uint32 ``[n, 4]``.
        key: two integers in ``[0, 2**32)``.

    Returns:
        uint32 ``[n, 4]``.
    """
    from gpurender.kernels.philox import cpu

    if counters.dtype != np.uint32 or counters.ndim != 2 or counters.shape[1] != 4:
        raise ValueError(f"counters must be uint32 [n, 4], got {counters.dtype} {list(counters.shape)}")
    out = np.empty_like(counters)
    cpu.fill(np.ascontiguousarray(counters), np.uint32(key[0]), np.uint32(key[1]), out)
    return out
