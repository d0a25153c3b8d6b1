"""What ``gpurender export --format webdataset`` does: write a dataset as tar files for the package webdataset."""
