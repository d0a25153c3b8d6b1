"""RandAugment, AutoAugment and 3-Augment by timm's configuration strings: which operations a sample gets, how strong.

A policy is a table of alternatives, each a sequence of operations. RandAugment chooses an alternative of one operation
a few times, AutoAugment one alternative of two operations once.

Sources: Cubuk et al., "RandAugment" (2019) and "AutoAugment" (CVPR 2019); Touvron et al., "DeiT III" (ECCV 2022) for
3-Augment; the strings, ranges and sets of operations are those of timm 1.0.31 (``timm/data/auto_augment.py``).
"""

import functools
import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gpurender.kernels.image_ops import BY_NAME, Operation
from gpurender.kernels.philox import bounded, uniform, words
from gpurender.kernels.resized_crop import BILINEAR, LayerLaw, draw_layers
from gpurender.numerics import quantiles
from gpurender.numerics.streams import Stream
from gpurender.runtime import devices
from gpurender.util import checks, device_tables

HIGHEST = 10.0  # level; the scale of all levels
MAX_HIGHEST = 1000
MAX_LAYERS = 16
SHARES = 1 << 20  # what the shares of weighted operations sum to, nearly
BLUR_RADII = (0.1, 2.0)  # of GaussianBlurRand, the second times the level's argument


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


_ENHANCED_LEVEL = Level(gain=1.8, offset=0.1)
_INCREASING_LEVEL = Level(gain=0.9, signed=True, offset=1.0, least=0.1)

LEVELS = {
    "AutoContrast": Level(),
    "Equalize": Level(),
    "Invert": Level(),
    "Rotate": Level(gain=30.0, signed=True),
    "Posterize": Level(gain=4.0, whole=True, cap=8.0),
    "PosterizeIncreasing": Level(gain=4.0, whole=True, falling=True, offset=4.0, least=0.0),
    "PosterizeOriginal": Level(gain=4.0, whole=True, offset=4.0, cap=4.0),
    "Solarize": Level(gain=256.0, whole=True, cap=256.0),
    "SolarizeIncreasing": Level(gain=256.0, whole=True, cap=256.0, falling=True, offset=256.0),
    "SolarizeAdd": Level(gain=110.0, whole=True, cap=128.0),
    "Color": _ENHANCED_LEVEL,
    "ColorIncreasing": _INCREASING_LEVEL,
    "Contrast": _ENHANCED_LEVEL,
    "ContrastIncreasing": _INCREASING_LEVEL,
    "Brightness": _ENHANCED_LEVEL,
    "BrightnessIncreasing": _INCREASING_LEVEL,
    "Sharpness": _ENHANCED_LEVEL,
    "SharpnessIncreasing": _INCREASING_LEVEL,
    "ShearX": Level(gain=0.3, signed=True),
    "ShearY": Level(gain=0.3, signed=True),
    "TranslateXRel": Level(gain=0.45, signed=True),
    "TranslateYRel": Level(gain=0.45, signed=True),
    # timm's factor of Desaturate is 1/2 at level 0 and 1 at level 10: how much colour is lost
    "Desaturate": Level(gain=0.5, cap=0.5, falling=True, offset=0.5),
    "GaussianBlur": Level(gain=1.9, cap=1.9, offset=0.1),
    "GaussianBlurRand": Level(gain=1.0, cap=1.0, random_radius=True),
}

_BOTH = ("AutoContrast", "Equalize", "Invert", "Rotate")
_MOVES = ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
_ENHANCED = ("Color", "Contrast", "Brightness", "Sharpness")
PLAIN = (*_BOTH, "Posterize", "Solarize", "SolarizeAdd", *_ENHANCED, *_MOVES)
INCREASING = (
    *_BOTH,
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    *(f"{name}Increasing" for name in _ENHANCED),
    *_MOVES,
)
THREE = ("SolarizeIncreasing", "Desaturate", "GaussianBlur")
# fmt: off
WEIGHTED: dict[str, float] = {
    "Rotate": 3, "ShearX": 2, "ShearY": 2, "TranslateXRel": 1, "TranslateYRel": 1, "ColorIncreasing": 0.25,
    "SharpnessIncreasing": 0.25, "AutoContrast": 0.25, "SolarizeIncreasing": 0.05, "SolarizeAdd": 0.05,
    "ContrastIncreasing": 0.05, "BrightnessIncreasing": 0.05, "Equalize": 0.05, "PosterizeIncreasing": 0.05,
    "Invert": 0.05,
}
WEIGHTED_THREE: dict[str, float] = {
    "SolarizeIncreasing": 6, "Desaturate": 6, "GaussianBlur": 6, "Rotate": 3, "ShearX": 2, "ShearY": 2,
    "PosterizeIncreasing": 1, "AutoContrast": 1, "ColorIncreasing": 1, "SharpnessIncreasing": 1,
    "ContrastIncreasing": 1, "BrightnessIncreasing": 1, "Equalize": 1, "Invert": 1,
}
TRANSFORM_WEIGHTS: dict[str, dict[str, float]] = {"weights": WEIGHTED, "3aw": WEIGHTED_THREE}
# The set that timm called w0 before it replaced w by t: weights by the operation, whichever way its level runs.
WEIGHTED_W0 = {
    "Rotate": 0.3, "ShearX": 0.2, "ShearY": 0.2, "TranslateXRel": 0.1, "TranslateYRel": 0.1, "Color": 0.025,
    "Sharpness": 0.025, "AutoContrast": 0.025, "Solarize": 0.005, "SolarizeAdd": 0.005, "Contrast": 0.005,
    "Brightness": 0.005, "Equalize": 0.005, "Posterize": 0.0, "Invert": 0.0,
}

# AutoAugment's sub-policies: two of (operation, probability, level) each.
V0 = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),        (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),           (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),      (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),   (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),         (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),        (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)), (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),        (("Rotate", 1.0, 7), ("TranslateYRel", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),        (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),           (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),  (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)
ORIGINAL = (
    (("PosterizeOriginal", 0.4, 8), ("Rotate", 0.6, 9)),    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),  (("PosterizeOriginal", 0.6, 7), ("PosterizeOriginal", 0.6, 6)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),           (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),           (("PosterizeOriginal", 0.8, 5), ("Equalize", 1.0, 2)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),             (("Equalize", 0.6, 8), ("PosterizeOriginal", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),                (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
    (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),           (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),              (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),              (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),             (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
    (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),           (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
    (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),             (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
)
# fmt: on
THREE_AUGMENT = ((("Solarize", 1.0, 5),), (("Desaturate", 1.0, 10),), (("GaussianBlurRand", 1.0, 10),))


def _research(policy: tuple, posterize: str) -> tuple:
    """The policy with the Posterize of Google's research code, which keeps fewer bits at higher levels."""
    return tuple(
        tuple(("PosterizeIncreasing" if name == posterize else name, p, level) for name, p, level in alternative)
        for alternative in policy
    )


POLICIES = {
    "original": ORIGINAL,
    "originalr": _research(ORIGINAL, "PosterizeOriginal"),
    "v0": V0,
    "v0r": _research(V0, "Posterize"),
    "3a": THREE_AUGMENT,
}


@dataclass(frozen=True)
class AutoAugment:
    """What a configuration string stands for.

    Attributes:
        alternatives: each a sequence of (operation, probability, level), all of one length D.
        shares: of the alternatives where they are chosen without being put back, integers; ``None``: evenly, put back.
        layers: how many alternatives a sample gets, one after the other.
        std: standard deviation of the level; infinity: uniform from 0 to the level.
        highest: levels are clipped to 0 .. highest.
    """

    alternatives: tuple[tuple[tuple[str, float, float], ...], ...]
    shares: tuple[int, ...] | None = None
    layers: int = 1
    std: float = 0.0
    highest: float = HIGHEST

    @property
    def operations(self) -> frozenset[Operation]:
        """All that may be drawn."""
        return frozenset(BY_NAME[name] for choice in self.alternatives for name, _, _ in choice)

    def draw(
        self, numbers: torch.Tensor, seed: int, interpolation: int | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The operations of draw numbers.

        Addresses: of ``(seed, Stream.LAYER, number)``, block l D + d is operation d of layer l; its words are the
        choice (of the layer: where d = 0), whether it is applied, its level, and: sign (highest bit), interpolation
        (the next) and radius (the last 24).

        Args:
            numbers: int64 ``[N]``.
            seed: unsigned 64-bit key.
            interpolation: its code, or ``None`` for bilinear or bicubic with equal chances.

        Returns:
            operations int32, arguments float64, interpolations uint8, each ``[N, layers * D]`` on the numbers' device.
        """
        if devices.on_gpu(numbers.device):
            return draw_layers(numbers, seed, self._law(numbers.device), interpolation)
        depth = len(self.alternatives[0])
        drawn = words(seed, Stream.LAYER, numbers, self.layers * depth).view(-1, self.layers, depth, 4)
        choice = self._choices(drawn[:, :, 0, 0])  # [N, layers]
        laws, codes = _laws(self, numbers.device)
        law, code = laws[choice], codes[choice]  # [N, layers, D, 10], [N, layers, D]
        probability, level, gain, whole, signed, falling, offset, cap, least, random_radius = law.unbind(-1)
        applied = uniform(drawn[..., 1]) < probability
        level = self._levels(level, drawn[..., 2])

        v = torch.minimum(level / HIGHEST * gain, cap)
        v = torch.where(whole != 0.0, torch.trunc(v), v)
        last = drawn[..., 3]
        v = torch.where((signed != 0.0) & (last >> 31 != 0), -v, v)
        argument = torch.maximum(torch.where(falling != 0.0, offset - v, offset + v), least)
        low, high = BLUR_RADII
        radius = low + (high * argument - low) * ((last & 0xFFFFFF).to(torch.float64) * 2.0**-24)
        argument = torch.where(random_radius != 0.0, radius, argument)

        either = BILINEAR + ((last >> 30) & 1)
        interpolations = either if interpolation is None else torch.full_like(last, interpolation)
        operations = torch.where(applied, code, torch.zeros_like(code))
        shape = (len(numbers), self.layers * depth)
        return (
            operations.view(shape).to(torch.int32),
            argument.view(shape),
            interpolations.view(shape).to(torch.uint8),
        )

    def _law(self, device: torch.device) -> LayerLaw:
        """The tables and numbers that :meth:`draw` begins with."""
        laws, codes = _laws(self, device)
        shares = None if self.shares is None else _shares(self, device)
        normals = quantiles.on(device, "normal")
        return LayerLaw(laws, codes, shares, normals, self.layers, self.std, self.highest, BLUR_RADII)

    def _levels(self, level: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Levels, spread and clipped."""
        if self.std == math.inf:
            level = level * uniform(drawn)
        elif self.std > 0.0:
            level = level + self.std * quantiles.normal(drawn)
        return level.clamp(0.0, self.highest)

    def _choices(self, drawn: torch.Tensor) -> torch.Tensor:
        """Alternatives, int64 [N, layers], of words [N, layers]."""
        if self.shares is None:
            return bounded(drawn, len(self.alternatives))
        left = _shares(self, drawn.device).repeat(len(drawn), 1)  # [N, A]
        chosen = []
        for layer in range(self.layers):
            ends = left.cumsum(1)  # integers: the same sums in any order
            place = bounded(drawn[:, layer], ends[:, -1])
            choice = (ends <= place[:, None]).sum(1)
            left = left.scatter(1, choice[:, None], 0)
            chosen.append(choice)
        return torch.stack(chosen, 1)


@device_tables.on_device
def _laws(policy: AutoAugment, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability, level and the level's law, float64 [A, D, 10], and the codes, int64 [A, D], on the device."""
    rows, codes = [], []
    for alternative in policy.alternatives:
        codes.append([int(BY_NAME[name]) for name, _, _ in alternative])
        rows.append([[p, level, *map(float, LEVELS[name])] for name, p, level in alternative])
    return (
        torch.tensor(rows, dtype=torch.float64, device=device),
        torch.tensor(codes, dtype=torch.int64, device=device),
    )


@device_tables.on_device
def _shares(policy: AutoAugment, device: torch.device) -> torch.Tensor:
    return torch.tensor(policy.shares, dtype=torch.int64, device=device)


@functools.lru_cache(maxsize=64)
def parsed(config: str) -> AutoAugment:
    """The policy of timm's configuration string.

    ``rand-m9-mstd0.5-inc1`` is RandAugment; its sections, in any order: ``m`` level, ``n`` operations a sample (2),
    ``p`` probability of each (0.5), ``mstd`` standard deviation of the level (above 100: uniform from 0 to ``m``),
    ``mmax`` highest level (10), ``inc1`` operations that all grow stronger with the level, ``t`` set of operations
    (``tweights``, ``t3a``, ``t3aw``), ``w0`` the weights of timm's earlier versions. ``original``, ``originalr``,
    ``v0``, ``v0r`` are AutoAugment, ``3a`` is 3-Augment; their only section is ``mstd``.

    Raises:
        ValueError: naming auto_augment, the string and what is wrong with it.
    """
    name, *sections = config.split("-")
    if name not in ("rand", *POLICIES):
        known = ", ".join(("rand-…", *POLICIES))
        raise ValueError(f"auto_augment must begin with one of {known}, got {checks.shown(config)}")
    keys = _KEYS if name == "rand" else {"mstd": _KEYS["mstd"]}
    given: dict[str, str] = {}
    for section in sections:
        key, value = _section(section, keys, config)
        if key in given:
            raise ValueError(f"auto_augment {checks.shown(config)} has the section {key!r} twice")
        given[key] = value
    std = float(given.get("mstd", "0"))
    if name != "rand":
        return AutoAugment(POLICIES[name], std=std)
    return _rand_augment(given, _std(std), config)  # timm takes a large one for uniform in RandAugment only


_WHOLE, _REAL = r"[0-9]{1,9}", r"[0-9]+(?:\.[0-9]*)?(?:e[+]?[0-9]+)?"
_KEYS = {  # of RandAugment: what the value looks like, and what is allowed in words
    "m": (_WHOLE, "an integer, 0 to 999999999"),
    "n": (_WHOLE, f"an integer, 1 to {MAX_LAYERS}"),
    "p": (_REAL, "a number, 0 to 1"),
    "mstd": (_REAL + "|inf", "a number, 0 or more"),
    "mmax": (_WHOLE, f"an integer, 1 to {MAX_HIGHEST}"),
    "inc": (r"[01]", "0 or 1"),
    "t": (r"weights|3aw|3a", "weights, 3a or 3aw"),
    "w": (r"0", "0"),
}


def _section(section: str, keys: dict[str, tuple[str, str]], config: str) -> tuple[str, str]:
    for key in sorted(keys, key=len, reverse=True):  # mstd before m
        if section.startswith(key):
            pattern, allowed = keys[key]
            if not re.fullmatch(pattern, section[len(key) :]):
                raise ValueError(
                    f"auto_augment {checks.shown(config)}: {key} must be {allowed}, got {checks.shown(section)}"
                )
            return key, section[len(key) :]
    raise ValueError(
        f"auto_augment {checks.shown(config)} must have sections {', '.join(keys)}, got {checks.shown(section)}"
    )


def _std(value: float) -> float:
    return math.inf if value > 100.0 else value


def _rand_augment(given: dict[str, str], std: float, config: str) -> AutoAugment:
    level, layers, p = int(given.get("m", "10")), int(given.get("n", "2")), float(given.get("p", "0.5"))
    highest = int(given.get("mmax", "10"))
    for key, value, low, high in (("n", layers, 1, MAX_LAYERS), ("p", p, 0, 1), ("mmax", highest, 1, MAX_HIGHEST)):
        if not low <= value <= high:
            raise ValueError(
                f"auto_augment {checks.shown(config)}: {key} must be {_KEYS[key][1]}, got {checks.shown(given[key])}"
            )
    names = INCREASING if given.get("inc") == "1" else PLAIN
    weights: dict[str, float] | None = None
    if "t" in given:
        weights = TRANSFORM_WEIGHTS.get(given["t"])
        names = THREE if weights is None else tuple(weights)
    elif "w" in given:
        weights = {name: WEIGHTED_W0[name.removesuffix("Increasing")] for name in names}
        weights = {name: weight for name, weight in weights.items() if weight}
        names = tuple(weights)
    if weights is not None and layers > len(names):
        raise ValueError(
            f"auto_augment {checks.shown(config)}: n must be at most {len(names)}, the number of weighted operations, "
            f"got {layers}"
        )
    shares = None
    if weights is not None:
        total = math.fsum(weights.values())
        shares = tuple(round(weight / total * SHARES) for weight in weights.values())
    return AutoAugment(tuple(((name, p, level),) for name in names), shares, layers, std, float(highest))
