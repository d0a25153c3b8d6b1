"""How the reference kernels are compiled: without the GIL, without fast-math, kept on disk where that is possible."""

from collections.abc import Callable
from typing import Any

import numpy.ma  # noqa: F401 - Numba looks for it at the first call, where a fork does not wait (gpurender.forks)
from numba import njit


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with Numba at its first call, and cache the result beside the source or in the user's cache.

    Where neither can be written (a read-only installation without a home), Numba refuses at once; then every process
    compiles for itself.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy")(function)
