"""Mixup and CutMix of the images n and N - 1 - n of a batch, and the soft targets that go with them.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018); Yun et al., "CutMix" (ICCV 2019); the
rules are those of timm 1.0.31's ``Mixup`` and ``FastCollateMixup``.
"""

from typing import NamedTuple

import torch

from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop import MixLaw, draw_mixing
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream
from gpurender.runtime import devices

MODES = ("batch", "pair", "elem")


class Mixup(NamedTuple):
    """What is drawn from.

    Attributes:
        mixup_alpha, cutmix_alpha: of the Beta law of the weights; 0: not this one.
        cutmix_minmax: least and most side of the patch as shares of the image's, instead of the weight; or ``None``.
        prob: of mixing at all.
        switch_prob: of CutMix where both are on.
        mode: whether a batch, a pair of partners or an image is drawn for: ``"batch"``, ``"pair"``, ``"elem"``.
        correct_lam: whether the weight of a clipped patch is that of its pixels.
    """

    mixup_alpha: float
    cutmix_alpha: float
    cutmix_minmax: tuple[float, float] | None
    prob: float
    switch_prob: float
    mode: str
    correct_lam: bool

    @property
    def active(self) -> bool:
        """Whether there is anything to mix by."""
        return self.mixup_alpha > 0.0 or self.cutmix_alpha > 0.0 or self.cutmix_minmax is not None

    @property
    def alpha_to_cut(self) -> float:
        """Of the Beta law of CutMix's weights; 0: no CutMix."""
        return self.cutmix_alpha if self.cutmix_minmax is None else 1.0

    @property
    def chance_to_cut(self) -> float:
        """Of CutMix, where something is mixed."""
        if not self.alpha_to_cut:
            return 0.0
        return self.switch_prob if self.mixup_alpha else 1.0

    def sides(self, size: int) -> tuple[int, int]:
        """By ``cutmix_minmax``, the lowest side of a patch in pixels and the first that is too high."""
        assert self.cutmix_minmax is not None
        low, high = (int(size * share) for share in self.cutmix_minmax)
        if low >= high:
            raise ValueError(f"cutmix_minmax must span a pixel of {size} at least, got {self.cutmix_minmax}")
        return low, high

    def on(self, device: torch.device, size: int) -> MixLaw:
        """The tables and numbers that :func:`draw` begins with, for images of a size."""
        mixup, cutmix = (
            quantiles.on(device, "beta", alpha) if alpha else None for alpha in (self.mixup_alpha, self.alpha_to_cut)
        )
        sides = None if self.cutmix_minmax is None else self.sides(size)
        corrected = self.correct_lam or sides is not None
        return MixLaw(mixup, cutmix, self.prob, self.chance_to_cut, self.mode, sides, corrected)


def draw(law: Mixup, numbers: torch.Tensor, seed: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights and patches of the draw numbers of a batch.

    Addresses: of ``(seed, Stream.MIX, number)``, the words of block 0 are whether to mix, whether by CutMix, CutMix's
    weight and mixup's; those of block 1 the patch: the row and column of its centre, or (``cutmix_minmax``) its height,
    width, top and left. The number is the batch's first, the pair's first, or the image's own.

    Args:
        law: what they are drawn from, active.
        numbers: int64 ``[N]``, of a whole batch.
        seed: unsigned 64-bit key.
        size: side of the images in pixels.

    Returns:
        weights float64 ``[N]``: the image's own share in its target, and in its pixels if it is mixed up; cut bool
        ``[N]``; patches int32 ``[N, 4]``: top, left, height, width; on the numbers' device.
    """
    if devices.on_gpu(numbers.device):
        return draw_mixing(numbers, seed, size, law.on(numbers.device, size))
    place = torch.arange(len(numbers), device=numbers.device)
    if law.mode == "batch":
        place = place * 0
    elif law.mode == "pair":
        place = torch.minimum(place, place.flip(0))
    drawn = words(seed, Stream.MIX, numbers[place], 2)  # [N, 8]
    mixed = uniform(drawn[:, 0]) < law.prob
    cut = mixed & (uniform(drawn[:, 1]) < law.chance_to_cut)
    weights = torch.where(cut, _beta(drawn[:, 2], law.alpha_to_cut), _beta(drawn[:, 3], law.mixup_alpha))
    if law.mode != "batch":  # then timm's weights are float32, and so is its square root below
        weights = weights.to(torch.float32)
    patches = _patches(law, weights, drawn[:, 4:], size)
    if law.correct_lam or law.cutmix_minmax is not None:
        own = 1.0 - (patches[:, 2] * patches[:, 3]).to(torch.float64) / float(size * size)
        weights = torch.where(cut, own.to(weights.dtype), weights)
    weights = torch.where(mixed, weights.to(torch.float64), 1.0)
    return weights, cut, torch.where(cut[:, None], patches, 0).to(torch.int32)


def _beta(drawn: torch.Tensor, alpha: float) -> torch.Tensor:
    return quantiles.beta(drawn, alpha) if alpha else torch.ones_like(drawn, dtype=torch.float64)


def _patches(law: Mixup, weights: torch.Tensor, drawn: torch.Tensor, size: int) -> torch.Tensor:
    """Patches int64 [N, 4] for CutMix, of words [N, 4]."""
    if law.cutmix_minmax is not None:
        low, high = law.sides(size)
        sides = low + bounded(drawn[:, :2], high - low)
        return torch.cat([bounded(drawn[:, 2:], size - sides + 1), sides], 1)
    side = (size * torch.sqrt(1.0 - weights)).to(torch.int64)[:, None]  # truncated
    centre = bounded(drawn[:, :2], size)  # [N, 2]
    first = (centre - side // 2).clamp(0, size)
    last = (centre + (side + 1) // 2).clamp(0, size)
    return torch.cat([first, last - first], 1)


def soft_targets(
    labels: torch.Tensor, weights: torch.Tensor | None, classes: int, label_smoothing: float
) -> torch.Tensor:
    """Mixed and smoothed targets, timm's ``mixup_target``.

    Formula: y = smoothing / classes everywhere and 1 - smoothing more at the label; y_n w_n + y_(N-1-n) (1 - w_n).

    Args:
        labels: int64 ``[N]`` in ``[0, classes)``.
        weights: float64 ``[N]``, or ``None``: nothing is mixed.
        classes: number of classes.
        label_smoothing: 0 to 1.

    Returns:
        float32 ``[N, classes]``, on the labels' device; each row sums to 1.
    """
    off = label_smoothing / classes
    on = 1.0 - label_smoothing + off
    own = torch.full((len(labels), classes), off, dtype=torch.float32, device=labels.device).scatter_(
        1, labels[:, None], on
    )
    if weights is None:
        return own
    share = weights[:, None]
    return own * share.to(torch.float32) + own.flip(0) * (1.0 - share).to(torch.float32)
