"""Counters of random words: the address (stream, draw id, block) in the layout of Philox."""

import numpy as np


def counters(draw_ids: np.ndarray, stream: int, blocks: int) -> np.ndarray:
    """Return the counters (block, stream, draw id low, high) of draw ids uint64 ``[n]``: uint32 ``[n * blocks, 4]``."""
    out = np.empty((len(draw_ids), blocks, 4), dtype=np.uint32)
    out[:, :, 0] = np.arange(blocks, dtype=np.uint32)
    out[:, :, 1] = np.uint32(stream)
    out[:, :, 2] = (draw_ids & np.uint64(0xFFFFFFFF)).astype(np.uint32)[:, None]
    out[:, :, 3] = (draw_ids >> np.uint64(32)).astype(np.uint32)[:, None]
    return out.reshape(-1, 4)
