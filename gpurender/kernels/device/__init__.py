"""Device code that several operations share: CUDA headers and their references in Numba, Triton functions."""
