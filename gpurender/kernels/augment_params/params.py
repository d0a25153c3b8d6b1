"""Parameters of the augmentation distributions, for both implementations: one type per draw."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

from gpurender.kernels.image_ops.ops import Operation
from gpurender.numerics.portable_math import log

ATTEMPTS = 10  # attempts per crop and per erased box
LEVEL_SCALE = 10.0  # a level is the fraction level / LEVEL_SCALE of an operation's full strength
BLUR_RADII = (0.1, 2.0)  # range of a random radius; its upper end is multiplied by the level's argument
BLUR_SIGMAS = (0.1, 2.0)  # range of the jitter blur's standard deviation, in pixels
MIXUP_MODES = ("batch", "pair", "elem")
JITTERED = (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR, Operation.HUE)

Range = tuple[float, float]


@dataclass(frozen=True)
class CropParams:
    """Parameters of the distributions of crops and flips.

    Attributes:
        scale: lowest and highest area, as fractions of the canvas; uniform.
        ratio: lowest and highest width / height; log-uniform.
        flips: probabilities of the horizontal and of the vertical flip.
        interpolation: code of the interpolation, or ``None`` for bilinear or bicubic with equal probability.
    """

    scale: Range
    ratio: Range
    flips: Range
    interpolation: int | None

    @property
    def log_ratio(self) -> Range:
        """The logarithm of the lowest ratio, and the logarithm of highest / lowest."""
        return _log_range(self.ratio)

    def central(self, side: int) -> tuple[int, int]:
        """Return the height and width of the largest crop within the range of ratios, at least one pixel each."""
        low, high = self.ratio
        if low > 1.0:
            return max(round(side / low), 1), side
        if high < 1.0:
            return side, max(round(side * high), 1)
        return side, side


@functools.lru_cache(maxsize=1024)  # of every batch: 50 us
def _log_range(ratio: Range) -> Range:
    low, high = (float(log(end)) for end in ratio)
    return low, high - low


class Level(NamedTuple):
    """Rule that converts a level in 0 .. 10 (or more, by ``mmax``) to an operation's argument::

    v = min(level / 10 * gain, cap),  truncated if whole,  negated with probability 1/2 if signed
    argument = max(offset + v, least)           (offset - v if falling)
    """

    gain: float = 0.0
    whole: bool = False
    signed: bool = False
    falling: bool = False
    offset: float = 0.0
    cap: float = math.inf
    least: float = -math.inf
    random_radius: bool = False


LEVEL_FIELDS = ("probability", "level", *Level._fields)  # the columns of the table of levels


class LayerOp(NamedTuple):
    """One operation of an alternative: its probability, its level, and the rule that makes an argument of it."""

    operation: Operation
    probability: float
    level: float
    rule: Level


@dataclass(frozen=True)
class LayerParams:
    """Parameters of the distributions of operations in RandAugment, AutoAugment and 3-Augment.

    Attributes:
        alternatives: sequences of operations, all of the same length D.
        weights: integer weights of the alternatives, chosen without replacement; ``None``: uniform, with replacement.
        layers: number of alternatives per sample, applied one after the other.
        std: standard deviation of the level; infinity: uniform from 0 to the operation's level.
        highest: levels are clipped to 0 .. highest.
        interpolation: code of the interpolation, or ``None`` for bilinear or bicubic with equal probability.
    """

    alternatives: tuple[tuple[LayerOp, ...], ...]
    weights: tuple[int, ...] | None = None
    layers: int = 1
    std: float = 0.0
    highest: float = LEVEL_SCALE
    interpolation: int | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        """All operations that may be drawn."""
        return frozenset(each.operation for alternative in self.alternatives for each in alternative)


@dataclass(frozen=True)
class JitterParams:
    """Parameters of the distributions of colour jitter, grayscale and blur.

    Attributes:
        strengths: strengths s of brightness, contrast, saturation and hue: factors are uniform in
            [max(0, 1 - s), 1 + s], hue in [-s, s] turns; a strength of 0 leaves the component out.
        probability: probability of the jitter as a whole.
        grayscale: probability of conversion to grey.
        blur: probability of a Gaussian blur with a kernel of 23 pixels.
    """

    strengths: tuple[float, float, float, float]
    probability: float
    grayscale: float
    blur: float

    @property
    def components(self) -> tuple[int, ...]:
        """The components that may be drawn, by their place in JITTERED: those with a strength other than 0."""
        return tuple(i for i, strength in enumerate(self.strengths) if strength) if self.probability else ()

    @property
    def operations(self) -> frozenset[Operation]:
        """All operations that may be drawn."""
        drawn = {JITTERED[i] for i in self.components}
        drawn |= {Operation.COLOR} if self.grayscale else set()
        return frozenset(drawn | ({Operation.GAUSSIAN_KERNEL} if self.blur else set()))

    @property
    def layers(self) -> int:
        """The maximum number of operations per sample."""
        return len(self.components) + (self.grayscale > 0.0) + (self.blur > 0.0)


@dataclass(frozen=True)
class MixParams:
    """Parameters of the distributions of mixup and CutMix.

    Attributes:
        mixup_alpha, cutmix_alpha: Beta parameters of the weights; 0 disables.
        cutmix_minmax: lowest and highest side of the patch as fractions of the image's side, instead of a side computed
            from the weight; or ``None``. A range switches CutMix on.
        prob: probability of mixing at all.
        switch_prob: probability of CutMix if both are on.
        mode: one of MIXUP_MODES: one draw per batch, per pair of partners or per image.
        correct_lam: whether the weight is recomputed from the pixels of the clipped patch.
    """

    mixup_alpha: float
    cutmix_alpha: float
    cutmix_minmax: Range | None
    prob: float
    switch_prob: float
    mode: str
    correct_lam: bool

    @property
    def active(self) -> bool:
        """Whether mixup or CutMix is on."""
        return any(self.alphas)

    @property
    def alphas(self) -> Range:
        """Beta parameters of the weights of mixup and of CutMix, each 0 if it is off."""
        return self.mixup_alpha, self.cutmix_alpha if self.cutmix_minmax is None else 1.0

    @property
    def cutmix_prob(self) -> float:
        """The probability of CutMix, given that an image is mixed."""
        mixup, cutmix = self.alphas
        if not cutmix:
            return 0.0
        return self.switch_prob if mixup else 1.0

    @property
    def corrected(self) -> bool:
        """Whether the weight is recomputed from the pixels of the patch."""
        return self.correct_lam or self.cutmix_minmax is not None

    def sides(self, size: int) -> tuple[int, int] | None:
        """Return the lowest and the highest + 1 side of a patch, in pixels, or ``None`` if the weight decides the side.

        Raises:
            ValueError: the range of sides is empty.
        """
        if self.cutmix_minmax is None:
            return None
        low, high = (int(size * fraction) for fraction in self.cutmix_minmax)
        if low >= high:
            raise ValueError(f"cutmix_minmax must span a pixel of {size} at least, got {self.cutmix_minmax}")
        return low, high


@dataclass(frozen=True)
class ErasingParams:
    """Parameters of the distribution of erased boxes.

    Attributes:
        probability: probability of erasing at all.
        boxes: minimum and maximum number of boxes per image; each of n boxes gets 1 / n of the area.
        area: range of the total area of the boxes, as fractions of the image; uniform.
        aspect: range of a box's height / width; log-uniform.
    """

    probability: float
    boxes: tuple[int, int]
    area: Range
    aspect: Range
