"""Weights: how much of each source a client should see, from its scores under the experts.

The scores z are mapped to [0, 1] by minimum and maximum, and w = softmax(z / T) with T = 0.1 (Neural Data Server,
section 3.3.2).
"""

import math
from collections.abc import Sequence

import numpy as np

from gpurender.util import checks

TEMPERATURE = 0.1


def unit(scores: np.ndarray) -> np.ndarray:
    """Return scores on the scale from 0, the least, to 1, the greatest, along the last axis; equal scores become 0."""
    low, high = scores.min(-1, keepdims=True), scores.max(-1, keepdims=True)
    return (scores - low) / np.where(high > low, high - low, 1.0)


def weights(scores: np.ndarray, max_share: float = 1.0) -> np.ndarray:
    """Return the weight of each score, float64 ``[K]``, sum 1.

    Args:
        scores: float64 ``[K]``.
        max_share: the greatest weight that is allowed; what a greater one has in excess goes to the others in
            proportion to theirs.

    Raises:
        ValueError: ``max_share`` is less than 1 / K.
    """
    raised = np.exp((unit(scores) - 1.0) / TEMPERATURE)
    return capped(raised / raised.sum(), max_share)


def capped(shares: np.ndarray, most: float) -> np.ndarray:
    """Return shares of at most ``most``; ``shares``: positive, float64 ``[K]``, sum 1."""
    if most * len(shares) < 1.0 - 1e-9:
        raise ValueError(
            f"max_share must be at least 1/{len(shares)} = {1 / len(shares):.4g}, for {len(shares)} sources to make up "
            f"the whole, got {most:g}"
        )
    full = np.zeros(len(shares), bool)
    found = shares
    while (found > most).any():
        full |= found >= most  # they stay full: the others only grow
        rest = shares[~full]
        found = np.where(full, most, 0.0)
        if len(rest):
            found[~full] = rest / rest.sum() * max(0.0, 1.0 - most * full.sum())
    return found


def similarity(vectors: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return how alike a client and each source are, float64 ``[N]``, -1 to 1: the cosine of their centred scores.

    Sources and client are represented by what the same K experts make of them (Scalable Neural Data Server, Cao,
    Bordes, Acuna, Fidler, NeurIPS 2021). Without their mean, which says how hard the images are, the cosine is
    Pearson's correlation.

    Args:
        vectors: of the sources, float64 ``[N, K]``.
        scores: of the client, float64 ``[K]``.
    """
    rows = vectors - vectors.mean(1, keepdims=True)
    own = scores - scores.mean()
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(own)
    return (rows @ own) / np.where(norms > 0.0, norms, 1.0)


def whole_shares(shares: Sequence[float], total: int) -> list[int]:
    """Return integers of sum ``total`` in proportion to shares, by the method of largest remainders.

    Args:
        shares: not negative, of sum 1.
        total: such as 1000, for shares in thousandths.
    """
    checks.integer("total", total, 1, 2**31 - 1)
    exact = [share * total for share in shares]
    found = [math.floor(x + 1e-9) for x in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (found[i] - exact[i], i))
    for i in by_rest[: total - sum(found)]:
        found[i] += 1
    return found


def predicted(scores: np.ndarray, seen: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the gain that each expert's source is expected to bring, float64 ``[K]``.

    The model is ``gain = a_i + b z_i`` with one level a_i per source and one slope b, fitted by least squares over the
    tasks whose gains are known; z are scores on the scale of :func:`unit`. Of one task, or of scores that do not
    differ between tasks, b is 0: the gain is then the mean over the tasks.

    Args:
        scores: of the client, float64 ``[K]``.
        seen: of the known tasks, float64 ``[T, K]``.
        gains: float64 ``[T, K]``.
    """
    z = unit(seen)
    mean_z, mean_gain = z.mean(0), gains.mean(0)
    spread = float(((z - mean_z) ** 2).sum())
    slope = float(((z - mean_z) * (gains - mean_gain)).sum()) / spread if spread > 1e-12 else 0.0
    return mean_gain + slope * (unit(scores) - mean_z)
