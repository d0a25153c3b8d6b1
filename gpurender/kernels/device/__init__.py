"""Device code that several kernels share: CUDA headers, Triton functions."""
