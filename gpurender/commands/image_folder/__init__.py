"""What ``gpurender export`` does: write a dataset as PNG files that ImageFolder reads, and verify them."""
