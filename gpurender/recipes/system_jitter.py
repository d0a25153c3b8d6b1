"""Variations of iterated function systems, one per image, computed on the device.

Source: Anderson & Farrell, "Improving Fractal Pre-training" (WACV 2022), and the authors' released generator. A system
is varied up to four times, until all singular values of its maps are at most 1; if none of the four is, the system
stays as it is. The kinds (A the linear part of a map, t its translation):

- ``"basic"``: all six numbers of one map times one U(0.8, 1.1);
- ``"fractaldb-K"``, K = 1 ... 9: one of the six numbers of every map, times one common factor out of 1, 1 +- K/10, 1 +-
  2 K/10, as FractalDB's weights;
- ``"svd"``: of one map, A = U S V turned as (R U) S V or U S (R V), R a rotation by U(-1/2, 1/2) radians, or t +
  U(-1/2, 1/2)^2. Here V' = R V is A R' with a rotation R' by the same angle or its opposite, so that the law is that of
  A R;
- ``"sval"``: the singular values of one map times a factor with which the system's sigma-factor is uniform in its
  range, ((5 + n) / 2, (6 + n) / 2) for n maps.

Singular values are at most 1 if and only if (1 - s1^2) (1 - s2^2) = 1 - q + det^2 >= 0 and s1^2 + s2^2 = q <= 2, with q
the sum of squares of A: no decomposition is needed. All is float64, + - * / and square roots, one operation of torch at
a time, so that CPU and GPU compute the same bits.
"""

import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.numerics.streams import Stream

KINDS = ("basic", *(f"fractaldb-{k}" for k in range(1, 10)), "svd", "sval")
TRIES = 4
TERMS = 8  # of sine and cosine: the first left out is below (1/2)^16 / 16! = 2^-60


def varied(systems: torch.Tensor, counts: torch.Tensor, kind: str, seed: int, draw_ids: torch.Tensor) -> torch.Tensor:
    """Return variations of systems, of the same shape.

    Args:
        systems: float64 ``[N, M, 6]`` (a, b, c, d, e, f), rows of zeros as padding.
        counts: int64 ``[N]``, maps per system.
        kind: one of ``KINDS``.
        seed: unsigned 64-bit key.
        draw_ids: int64 ``[N]``, addresses of the variations.
    """
    n, m, _ = systems.shape
    blocks = -(-(m + 1) // 4)
    u = words(seed, Stream.SYSTEM_JITTER, draw_ids, TRIES * blocks).view(n, TRIES, 4 * blocks)
    tries = systems[:, None].expand(n, TRIES, m, 6)
    which = bounded(u[:, :, 0], counts[:, None])  # [N, TRIES]: the map
    chosen = (torch.arange(m, device=systems.device) == which[..., None])[..., None]  # [N, TRIES, M, 1]
    if kind == "basic":
        tries = torch.where(chosen, tries * (0.8 + 0.3 * uniform(u[:, :, 1]))[..., None, None], tries)
    elif kind == "svd":
        tries = torch.where(chosen, _turned(tries, u), tries)
    elif kind == "sval":
        tries = torch.where(chosen, _rescaled(tries, which, counts, u), tries)
    else:
        tries = _reweighted(tries, 0.1 * int(kind.rpartition("-")[2]), u)
    kept = systems
    for t in range(TRIES - 1, -1, -1):
        kept = torch.where(contracts(tries[:, t])[:, None, None], tries[:, t], kept)
    return kept


def contracts(systems: torch.Tensor) -> torch.Tensor:
    """Return whether all singular values of all maps are at most 1; bool ``[N]`` of float64 ``[N, M, 6]``."""
    squares, determinants = _invariants(systems)
    return ((1.0 - squares + determinants * determinants >= 0.0) & (squares <= 2.0)).all(-1)


def _invariants(systems: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of squares and the determinant of each linear part, float64 [..., M] both."""
    a, b, c, d = systems[..., :4].unbind(-1)
    return a * a + b * b + c * c + d * d, a * d - b * c


def _reweighted(tries: torch.Tensor, step: float, u: torch.Tensor) -> torch.Tensor:
    """Return "fractaldb-K" with ``step`` = K / 10; u  # [N, TRIES, words]"""
    factor = 1.0 + step * (bounded(u[:, :, 0], 5) - 2).to(torch.float64)  # [N, TRIES]
    entry = bounded(u[:, :, 1 : 1 + tries.shape[2]], 6)[..., None]  # [N, TRIES, M, 1]
    return torch.where(torch.arange(6, device=tries.device) == entry, tries * factor[..., None, None], tries)


def _turned(tries: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return "svd", applied to every map; u  # [N, TRIES, words]"""
    side = bounded(u[:, :, 1], 3)[..., None]  # [N, TRIES, 1]
    shifts = uniform(u[:, :, 2:4]) - 0.5  # [N, TRIES, 2]
    cosine, sine = (x[..., None] for x in _cos_sin(shifts[..., 0]))
    a, b, c, d, e, f = tries.unbind(-1)  # [N, TRIES, M]
    left = torch.stack([cosine * a - sine * c, cosine * b - sine * d, sine * a + cosine * c, sine * b + cosine * d], -1)
    right = torch.stack(
        [a * cosine + b * sine, b * cosine - a * sine, c * cosine + d * sine, d * cosine - c * sine], -1
    )
    linear = torch.where((side == 0)[..., None], left, torch.where((side == 1)[..., None], right, tries[..., :4]))
    moved = side == 2
    e = torch.where(moved, e + shifts[..., :1], e)
    f = torch.where(moved, f + shifts[..., 1:], f)
    return torch.cat([linear, e[..., None], f[..., None]], -1)


def _cos_sin(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine of angles in [-1/2, 1/2] by their series, the small terms first."""
    square = x * x
    cosine, sine = torch.zeros_like(x), torch.zeros_like(x)
    for k in range(TERMS - 1, 0, -1):
        cosine = (1.0 + cosine) * (square * (-1.0 / ((2 * k - 1) * (2 * k))))
        sine = (1.0 + sine) * (square * (-1.0 / ((2 * k) * (2 * k + 1))))
    return 1.0 + cosine, x + x * sine


def _rescaled(tries: torch.Tensor, which: torch.Tensor, counts: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return "sval", applied to every map; which  # [N, TRIES]; u  # [N, TRIES, words]"""
    squares, determinants = _invariants(tries)
    double = 2.0 * determinants.abs()
    total = torch.sqrt(squares + double)  # s1 + s2
    apart = torch.sqrt((squares - double).clamp(min=0.0))  # s1 - s2
    weighted = 1.5 * total - 0.5 * apart  # [N, TRIES, M]: s1 + 2 s2
    alpha = torch.zeros_like(weighted[..., 0])
    for k in range(tries.shape[2]):  # in order: a sum may pair differently on another device
        alpha = alpha + weighted[..., k]
    own = weighted.gather(-1, which[..., None])[..., 0]
    others = alpha - own
    low = 0.5 * (5.0 + counts.to(torch.float64))[:, None] - others  # [N, TRIES]: of the map's own part
    factor = (low + 0.5 * uniform(u[:, :, 1])) / own
    return torch.cat([tries[..., :4] * factor[..., None, None], tries[..., 4:]], -1)
