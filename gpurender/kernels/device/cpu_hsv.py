"""HSV to RGB of bytes in Numba: the reference of ``hsv.cuh``.

The rule is OpenCV's for rows of uint8 pixels. With H, S, V bytes and ``unit`` the sixths of a turn per unit of H (in
OpenCV 6/180), in float32 except the brackets [], which are rounded once::

    s = S (1/255),  v = V (1/255),  h = H unit,  k = trunc(h),  f = h - k
    p = v (1 - s),  q = v [1 - s f],  t = v [1 - s (1 - f)]
    (r, g, b) = (v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)  for k mod 6 = 0 ... 5
    byte = trunc(255 r)

OpenCV truncates where it computes with vector instructions, in all but the last pixels of a row, which it rounds. Of
OpenCV 4.5.5 and 5.0 (x86-64 with fused multiply-adds, hence the brackets) all bytes are equal in 1.1 million colours.

H may exceed a turn by up to half a turn: the released generator's hues are bytes, and OpenCV's unit is two degrees.
"""

import numpy as np
from numba import float32, float64, int32, njit, uint8

UNIT = np.float32(1.0) / np.float32(255.0)
BYTE = np.float32(255.0)


@njit(inline="always")
def byte(x):
    """Return 255 x truncated to a byte, for x in [0, 1]."""
    return uint8(int32(float32(x * BYTE)))


@njit(inline="always")
def rest(s, f):
    """Return 1 - s f of float32 numbers: the product is exact in float64."""
    return float32(float64(1.0) - float64(s) * float64(f))


@njit(inline="always")
def rgb(hue, saturation, value, unit):
    """Return red, green, blue, uint8, of a hue (int32, 0 to 255) and bytes as float32; unit: float32."""
    s, v = float32(saturation * UNIT), float32(value * UNIT)
    turned = float32(float32(hue) * unit)
    sector = int32(turned)
    f = float32(turned - float32(sector))
    sector = sector - 6 if sector >= 6 else sector
    one = float32(1)
    p, q, t = float32(v * float32(one - s)), float32(v * rest(s, f)), float32(v * rest(s, float32(one - f)))
    red = v if (sector == 0) | (sector == 5) else (q if sector == 1 else (t if sector == 4 else p))
    green = v if (sector == 1) | (sector == 2) else (t if sector == 0 else (q if sector == 3 else p))
    blue = v if (sector == 3) | (sector == 4) else (t if sector == 2 else (q if sector == 5 else p))
    return byte(red), byte(green), byte(blue)
