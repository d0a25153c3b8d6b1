"""Where and how kernels run: devices, compilation, threads, tensors."""
