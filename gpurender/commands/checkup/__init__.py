"""What ``gpurender doctor`` does: try every kernel, compile kernels in advance, remove what is kept on disk."""
