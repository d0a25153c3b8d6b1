"""The colours of the points, computed once per device."""

from functools import cache

import numpy as np
import torch

HUES = 128
SATURATION = INTENSITY = 0.75


@cache
def palette(device: torch.device) -> torch.Tensor:
    """Return the released colour wheel, uint8 ``[128, 3]`` (HSI-like, released channel order, truncated to bytes)."""
    table = np.zeros((HUES, 3), np.uint8)
    pi = 3.141592653589793
    for i in range(HUES):
        angle = (3.0 / pi) * (2.0 * pi * (float(i) / float(HUES)))  # sixths of a turn
        sector = int(angle)
        p = int(INTENSITY * (1.0 - SATURATION) * 255.0)
        q = int(INTENSITY * (1.0 - SATURATION * (angle - sector)) * 255.0)
        t = int(INTENSITY * (1.0 - SATURATION * ((1.0 - angle) + sector)) * 255.0)
        v = int(INTENSITY * 255.0)
        table[i] = [(p, t, v), (p, v, q), (t, v, p), (v, q, p), (v, p, t), (q, p, v)][sector]
    return torch.from_numpy(table).to(device)
