"""Limits of warps, as both implementations have them."""

TERMS = 6  # of a polynomial of degree 2 in the plane
MORE = 3  # control points of a cubic B-spline along an axis, more than cells
MAX_SIZE = 8192
