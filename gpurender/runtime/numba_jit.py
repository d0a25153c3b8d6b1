"""Compilation of the reference kernels: without the GIL, without fast-math, kept in the user's cache."""

import logging
from collections.abc import Callable
from typing import Any

import numpy.ma  # noqa: F401 - Numba looks for it at the first call, where a fork does not wait (gpurender.runtime.forks)
from numba import njit

log = logging.getLogger("gpurender")


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of this package with Numba at its first call, and keep the result on disk."""
    compiled = njit(nogil=True, error_model="numpy")(function)
    try:
        from gpurender.runtime import compiling, numba_cache

        compiling.watch_numba()
        numba_cache.attach(compiled)
    except (ImportError, AttributeError) as error:  # a Numba with other internals
        log.info("kernels are compiled in every process: %s", error)
    return compiled
