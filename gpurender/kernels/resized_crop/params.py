"""Filters, limits and the fixed point of resizing, for both implementations and for those who draw crops."""

NEAREST, BILINEAR, BICUBIC = 0, 1, 2
MAX_SIDE = 65535  # of an output image, in pixels
BITS = 22  # of the fixed-point weights
