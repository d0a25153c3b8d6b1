"""HSV to RGB of bytes in Numba: the reference of ``hsv.cuh``.

The rule is OpenCV's for uint8 images, in float32: with H, S, V bytes and ``unit`` the sixths of a turn per unit of H
(in OpenCV 6/180)::

    s = S (1/255),  v = V (1/255),  h = H unit,  k = trunc(h),  f = h - k
    p = v (1 - s),  q = v (1 - s f),  t = v (1 - s (1 - f))
    (r, g, b) = (v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)  for k mod 6 = 0 ... 5
    byte = rint(255 r), halves to even

H may exceed a turn by up to half a turn: the released generator's hues are bytes, and OpenCV's unit is two degrees.
"""

import numpy as np
from numba import float32, int32, njit, uint8

UNIT = np.float32(1.0) / np.float32(255.0)
BYTE = np.float32(255.0)
ROUND = np.float32(2.0**23)  # the spacing of float32 is 1 there, so that the low bits of a sum are the rounded byte


@njit(inline="always")
def byte(x):
    """Return 255 x rounded to a byte, halves to even, for x in [0, 1]."""
    return uint8(int32(float32(x * BYTE) + ROUND))


@njit(inline="always")
def rgb(hue, saturation, value, unit):
    """Return red, green, blue, uint8, of a hue (int32, 0 to 255) and bytes as float32; unit: float32."""
    s, v = float32(saturation * UNIT), float32(value * UNIT)
    turned = float32(float32(hue) * unit)
    sector = int32(turned)
    f = float32(turned - float32(sector))
    sector = sector - 6 if sector >= 6 else sector
    one = float32(1)
    p = float32(v * float32(one - s))
    q = float32(v * float32(one - float32(s * f)))
    t = float32(v * float32(one - float32(s * float32(one - f))))
    red = v if (sector == 0) | (sector == 5) else (q if sector == 1 else (t if sector == 4 else p))
    green = v if (sector == 1) | (sector == 2) else (t if sector == 0 else (q if sector == 3 else p))
    blue = v if (sector == 3) | (sector == 4) else (t if sector == 2 else (q if sector == 5 else p))
    return byte(red), byte(green), byte(blue)
