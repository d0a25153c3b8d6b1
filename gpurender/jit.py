"""How the reference kernels are compiled: without the GIL, without fast-math, kept in the user's cache."""

from collections.abc import Callable
from typing import Any

from numba import njit

from gpurender import compiling, numba_cache


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of this package with Numba at its first call, and keep the result on disk."""
    compiled = njit(nogil=True, error_model="numpy")(function)
    numba_cache.attach(compiled)
    compiling.watch_numba()
    return compiled
