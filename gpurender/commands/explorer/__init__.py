"""What ``gpurender explore`` does: a local page on which every parameter of every family is a control."""
