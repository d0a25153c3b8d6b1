"""Shapes and limits of pixel noise, as both implementations have them."""

COEFFICIENTS = (3, 4)  # of an image: for each channel the offset and the factors of the three variates
MAX_SIZE = 8192
