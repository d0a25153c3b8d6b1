"""What the draws of augmentation are drawn from, for both implementations: one type per draw."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from gpurender.kernels.image_ops.ops import Operation
from gpurender.numerics.portable_math import log

ATTEMPTS = 10  # at a crop, and at each erased box
LEVEL_SCALE = 10.0  # a level's share of an operation's full strength is level / LEVEL_SCALE
BLUR_RADII = (0.1, 2.0)  # of a random radius, the second times the level's argument
BLUR_SIGMAS = (0.1, 2.0)  # of the jitter's blur, in pixels
MIXUP_MODES = ("batch", "pair", "elem")
JITTERED = (Operation.BRIGHTNESS, Operation.CONTRAST, Operation.COLOR, Operation.HUE)

Range = tuple[float, float]


@dataclass(frozen=True)
class CropParams:
    """What crops and flips are drawn from.

    Attributes:
        scale: lowest and highest area, as fractions of the canvas; uniform.
        ratio: lowest and highest width / height; log-uniform.
        flips: probabilities of the horizontal and of the vertical flip.
        interpolation: its code, or ``None`` for bilinear or bicubic with equal chances.
    """

    scale: Range
    ratio: Range
    flips: Range
    interpolation: int | None

    @property
    def log_ratio(self) -> Range:
        """The logarithm of the lowest ratio, and that of the highest less it."""
        low, high = (float(log(ratio)) for ratio in self.ratio)
        return low, high - low

    def central(self, side: int) -> tuple[int, int]:
        """Return height and width of the largest crop within the range of ratios, at least one pixel each."""
        low, high = self.ratio
        if low > 1.0:
            return max(round(side / low), 1), side
        if high < 1.0:
            return side, max(round(side * high), 1)
        return side, side


class Level(NamedTuple):
    """How a level in 0 .. 10 (or more, by ``mmax``) becomes an operation's argument::

    v = min(level / 10 * gain, cap),  truncated if whole,  negated with chance 1/2 if signed
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
    """One operation of an alternative: how likely it is applied, at which level, and how the level becomes a number."""

    operation: Operation
    probability: float
    level: float
    rule: Level


@dataclass(frozen=True)
class LayerParams:
    """What the operations of RandAugment, AutoAugment and 3-Augment are drawn from.

    Attributes:
        alternatives: each a sequence of operations, all of one length D.
        weights: of the alternatives where they are chosen without being put back, integers; ``None``: evenly, put back.
        layers: how many alternatives a sample gets, one after the other.
        std: standard deviation of the level; infinity: uniform from 0 to the level.
        highest: levels are clipped to 0 .. highest.
        interpolation: its code, or ``None`` for bilinear or bicubic with equal chances.
    """

    alternatives: tuple[tuple[LayerOp, ...], ...]
    weights: tuple[int, ...] | None = None
    layers: int = 1
    std: float = 0.0
    highest: float = LEVEL_SCALE
    interpolation: int | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        """All that may be drawn."""
        return frozenset(each.operation for alternative in self.alternatives for each in alternative)


@dataclass(frozen=True)
class JitterParams:
    """What colour jitter, grayscale and blur are drawn from.

    Attributes:
        strengths: of brightness, contrast, saturation and hue: factors are uniform in [max(0, 1 - s), 1 + s], hue in
            [-s, s] turns; a strength of 0 leaves the component out.
        probability: of the jitter as a whole.
        grayscale: probability of losing the colours.
        blur: probability of a Gaussian blur of 23 pixels.
    """

    strengths: tuple[float, float, float, float]
    probability: float
    grayscale: float
    blur: float

    @property
    def components(self) -> tuple[int, ...]:
        """Those that have a strength, by their place in JITTERED."""
        return tuple(i for i, strength in enumerate(self.strengths) if strength) if self.probability else ()

    @property
    def operations(self) -> frozenset[Operation]:
        """All that may be drawn."""
        drawn = {JITTERED[i] for i in self.components}
        drawn |= {Operation.COLOR} if self.grayscale else set()
        return frozenset(drawn | ({Operation.GAUSSIAN_KERNEL} if self.blur else set()))

    @property
    def layers(self) -> int:
        """The most operations of a sample."""
        return len(self.components) + (self.grayscale > 0.0) + (self.blur > 0.0)


@dataclass(frozen=True)
class MixParams:
    """What mixup and CutMix are drawn from.

    Attributes:
        mixup_alpha, cutmix_alpha: Beta parameters of the weights; 0 disables.
        cutmix_minmax: lowest and highest side of the patch as fractions of the image's, instead of the weight's; or
            ``None``. CutMix is then on.
        prob: of mixing at all.
        switch_prob: of CutMix where both are on.
        mode: whether a batch, a pair of partners or an image is drawn for: one of MIXUP_MODES.
        correct_lam: whether the weight of a clipped patch is that of its pixels.
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
        """Whether there is anything to mix by."""
        return any(self.alphas)

    @property
    def alphas(self) -> Range:
        """Beta parameters of the weights of mixup and of CutMix, 0 where it is off."""
        return self.mixup_alpha, self.cutmix_alpha if self.cutmix_minmax is None else 1.0

    @property
    def cutmix_prob(self) -> float:
        """The probability of CutMix where something is mixed."""
        mixup, cutmix = self.alphas
        if not cutmix:
            return 0.0
        return self.switch_prob if mixup else 1.0

    @property
    def corrected(self) -> bool:
        """Whether the weight of a patch is that of its pixels."""
        return self.correct_lam or self.cutmix_minmax is not None

    def sides(self, size: int) -> tuple[int, int] | None:
        """Return the lowest side of a patch in pixels and the first that is too high; ``None``: the weight decides.

        Raises:
            ValueError: there is no side between them.
        """
        if self.cutmix_minmax is None:
            return None
        low, high = (int(size * fraction) for fraction in self.cutmix_minmax)
        if low >= high:
            raise ValueError(f"cutmix_minmax must span a pixel of {size} at least, got {self.cutmix_minmax}")
        return low, high


@dataclass(frozen=True)
class ErasingParams:
    """What erased boxes are drawn from.

    Attributes:
        probability: of erasing anything.
        boxes: fewest and most boxes of an image; of n boxes each has an n-th of the area.
        area: of all boxes, as a fraction of the image: a range; uniform.
        aspect: height / width of a box: a range; log-uniform.
    """

    probability: float
    boxes: tuple[int, int]
    area: Range
    aspect: Range
