"""Filters, limits and the fixed point of resizing, for both implementations and for the code that draws crops."""

NEAREST, BILINEAR, BICUBIC = 0, 1, 2
MAX_SIDE = 65535  # maximum side of an output image, in pixels
BITS = 22  # fractional bits of the fixed-point weights
