"""RandAugment, AutoAugment and 3-Augment by timm's configuration strings: a sample's operations and their strengths.

A policy is a table of alternatives, each a sequence of operations. RandAugment draws n alternatives of one operation
each, AutoAugment draws one alternative of two operations.

Sources: Cubuk et al., "RandAugment" (2019) and "AutoAugment" (CVPR 2019); Touvron et al., "DeiT III" (ECCV 2022) for
3-Augment; the strings, ranges and sets of operations are those of timm 1.0.31 (``timm/data/auto_augment.py``).
"""

import functools
import math
import re
from collections.abc import Sequence

from gpurender.kernels.augment_params import LayerOp, LayerParams, Level
from gpurender.kernels.image_ops import BY_NAME
from gpurender.util import checks

MAX_HIGHEST = 1000
MAX_LAYERS = 16
WEIGHT_SUM = 1 << 20  # approximate sum of the weights, rounded to integers


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
    # timm's factor of Desaturate, the fraction of colour removed, is 1/2 at level 0 and 1 at level 10
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
# The set that timm called w0 before it replaced w by t: weights per operation, for both directions of its level.
WEIGHTED_W0 = {
    "Rotate": 0.3, "ShearX": 0.2, "ShearY": 0.2, "TranslateXRel": 0.1, "TranslateYRel": 0.1, "Color": 0.025,
    "Sharpness": 0.025, "AutoContrast": 0.025, "Solarize": 0.005, "SolarizeAdd": 0.005, "Contrast": 0.005,
    "Brightness": 0.005, "Equalize": 0.005, "Posterize": 0.0, "Invert": 0.0,
}

# AutoAugment's sub-policies, each two triples (operation, probability, level).
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
    """Return the policy with the Posterize of Google's research code, which keeps fewer bits at higher levels."""
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


def alternatives(choices: Sequence) -> tuple[tuple[LayerOp, ...], ...]:
    """Return alternatives of (name, probability, level) in the form that :class:`LayerParams` holds."""
    return tuple(
        tuple(LayerOp(BY_NAME[name], p, level, LEVELS[name]) for name, p, level in alternative)
        for alternative in choices
    )


@functools.lru_cache(maxsize=64)
def parsed(config: str) -> LayerParams:
    """Parse timm's configuration string; return the parameters of the distribution of operations.

    ``rand-m9-mstd0.5-inc1`` is RandAugment; its sections, in any order, with defaults in parentheses: ``m`` level (10),
    ``n`` operations per sample (2), ``p`` probability of each (0.5), ``mstd`` standard deviation of the level (0; above
    100: uniform from 0 to ``m``), ``mmax`` highest level (10), ``inc1`` operations that all grow stronger with the
    level, ``t`` set of operations (``tweights``, ``t3a``, ``t3aw``), ``w0`` the weights of timm's earlier versions.
    ``original``, ``originalr``, ``v0``, ``v0r`` are AutoAugment, ``3a`` is 3-Augment; their only section is ``mstd``.

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
        return LayerParams(alternatives(POLICIES[name]), std=std)
    return _rand_augment(given, _std(std), config)  # timm treats a large one as uniform in RandAugment only


_WHOLE, _REAL = r"[0-9]{1,9}", r"[0-9]+(?:\.[0-9]*)?(?:e[+]?[0-9]+)?"
_KEYS = {  # sections of RandAugment: the pattern of the value, and the allowed values in words
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


def _rand_augment(given: dict[str, str], std: float, config: str) -> LayerParams:
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
    rounded = None
    if weights is not None:
        total = math.fsum(weights.values())
        rounded = tuple(round(weight / total * WEIGHT_SUM) for weight in weights.values())
    return LayerParams(alternatives([((name, p, level),) for name in names]), rounded, layers, std, float(highest))
