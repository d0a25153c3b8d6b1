"""Kinds: whether a value is one that the documentation of a parameter allows.

This is the documentation once more, without the library's own checks: what is accepted and is not of its kind was
accepted silently.
"""

import math
import numbers
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch

Kind = Callable[[Any], bool]


def scalar(value: Any) -> Any:
    """An array or tensor of one number as that number."""
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)) and math.prod(value.shape) == 1:
        return value.item()
    return value


def whole(low: int = 0, high: int = 2**64 - 1) -> Kind:
    """An integer, of whatever type but bool."""

    def holds(value: Any) -> bool:
        value = scalar(value)
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and low <= value <= high

    return holds


def real(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Kind:
    """A finite number, of whatever type but bool."""

    def holds(value: Any) -> bool:
        value = scalar(value)
        if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal)):
            return False
        if isinstance(value, Decimal) and not value.is_finite():
            return False
        try:
            number = float(value)
        except OverflowError:
            return False
        return math.isfinite(number) and low <= number <= high and number > above

    return holds


def flag(value: Any) -> bool:
    """A bool."""
    return value is True or value is False


def word(*words: str) -> Kind:
    """One of some words."""
    return lambda value: isinstance(value, str) and any(str.__eq__(value, one) is True for one in words)


def either(*kinds: Kind) -> Kind:
    """Any of some kinds."""
    return lambda value: any(kind(value) for kind in kinds)


def nothing(value: Any) -> bool:
    """None."""
    return value is None


def anything(value: Any) -> bool:
    """No opinion."""
    return True


def instance(*types: type) -> Kind:
    """An object of one of these classes."""
    return lambda value: isinstance(value, types)


def items(kind: Kind, *lengths: int) -> Kind:
    """An ordered collection of one of some lengths (of any, without), all of whose items are of a kind."""

    def holds(value: Any) -> bool:
        if not isinstance(value, (list, tuple, range, np.ndarray, torch.Tensor)):
            return False
        if isinstance(value, range):
            value = value[:4096]
        if isinstance(value, (np.ndarray, torch.Tensor)) and len(value.shape) == 0:
            return False
        some = list(value)
        return (not lengths or len(some) in lengths) and all(kind(item) for item in some)

    return holds


def ordered(kind: Kind) -> Kind:
    """A pair (low, high) of a kind."""
    return lambda value: items(kind, 2)(value) and not value[0] > value[1]


SYSTEM = either(items(items(real(-1e6, 1e6), 6)), items(items(real(-1e6, 1e6), 7)))
SPACE_SYSTEM = either(items(items(real(-1e6, 1e6), 12)), items(items(real(-1e6, 1e6), 13)))
BIT64 = whole(0, 2**64 - 1)

RECIPE: dict[str, Kind] = {
    "classes": whole(1, 10_000_000),
    "instances": whole(1, 2**31 - 1),
    "image_size": whole(16, 8192),
    "seed": BIT64,
    "variant": word("released", "paper"),
    "class_prior": either(nothing, real(1, 1e9), items(real(0, 1e9))),
    "label_noise": either(nothing, real(0, 1), items(items(real(0, 1)))),
}
MIXTURE: dict[str, Kind] = {
    "recipes": lambda value: isinstance(value, dict) and all(real(above=0)(weight) for weight in value.values()),
    "labels": word("joint", "separate"),
}
STYLE: dict[str, Kind] = {
    "points": whole(1, 2**31 - 1),
    "fill_rate": real(0, 1),
    "draw_type": word("patch_gray", "patch_color", "point_gray", "point_color"),
    "mask_mode": word("random", "fill"),
}
ONEPFRAC = RECIPE | STYLE | {"sigma": real(0.1, 192), "maps": whole(1, 64), "base": SYSTEM, "delta": real(0, 10)}
ONEPFRAC["redraw"] = flag
FRACTALDB = (
    RECIPE
    | STYLE
    | {
        "weights": either(word("small", "base", "large"), items(items(real(-1e3, 1e3), 6))),
        "patches": whole(1, 10**6),
        "flips": whole(1, 4),
        "categories": items(SYSTEM),
    }
)
VISUALATOM: dict[str, Kind] = RECIPE | {
    "orbits": ordered(whole(1, 2048)),
    "quantization": ordered(whole(3, 4096)),
    "frequencies": ordered(whole(0, 4096)),
    "amplitudes": ordered(real(-4, 4)),
    "noise_level": ordered(real(0, 16)),
    "line_width": ordered(real(0, 16)),
    "radius": ordered(whole(0, 16_384)),
    "oval": ordered(real(0, 16)),
    "axes": ordered(real(0, 16_384)),
    "interval": real(0, 8),
    "line_thickness": whole(1, 1),
    "line_color": ordered(real(0, 1)),
    "nucleus": ordered(real(-4, 4)),
    "categories": items(items(real(-4, 16_384), 9, 11)),
    "noise": word("smooth", "independent"),
    "perturb": real(1e-4, 0.5),
}
RCDB: dict[str, Kind] = RECIPE | {
    "polygons": ordered(whole(1, 2048)),
    "vertices": ordered(whole(3, 4096)),
    "noise_level": ordered(real(0, 8)),
    "line_width": ordered(real(0, 16)),
    "radius": ordered(whole(0, 16_384)),
    "oval": ordered(real(0, 16)),
    "greys": ordered(whole(0, 4096)),
    "centre": ordered(real(-4, 4)),
    "categories": items(items(real(0, 16_384), 4, 7)),
    "perturb": real(1e-4, 0.5),
}
OFDB = RECIPE | {"points": whole(1, 10_000_000), "fill_rate": real(0, 1), "categories": items(SYSTEM)}
EXFRACTALDB: dict[str, Kind] = RECIPE | {
    "weights": either(word("all", "one"), items(items(real(-1e3, 1e3), 12))),
    "views": whole(1, 1_000_000),
    "viewpoints": word("random", "fixed", "drawn"),
    "points": whole(2, 1_000_000),
    "variance_threshold": real(0, 1),
    "categories": items(SPACE_SYSTEM),
}
COLORED: dict[str, Kind] = RECIPE | {
    "systems": whole(1, 10**6),
    "maps": ordered(whole(1, 8)),
    "points": whole(1, 10_000_000),
    "jitter": word("none", "basic", *(f"fractaldb-{k}" for k in range(1, 10)), "svd", "sval"),
}
COLORFRACTAL = COLORED | {"color": flag, "background": flag}
MULTIFRACTAL = COLORED | {"objects": ordered(whole(1, 16)), "sizes": ordered(real(0.01, 1))}
MULTIFRACTAL |= {"class_prior": nothing, "label_noise": nothing}
NOISE = RECIPE | {"distribution": word("gaussian", "uniform"), "perturb": real(1e-4, 0.3)}
SINGLEIMAGE = RECIPE | {
    "image": instance(str, Path, np.ndarray),
    "image_size": whole(16, 2048),
    "edges": either(nothing, word("canny")),
    "thresholds": ordered(real(0, 8)),
    "transform": word("affine", "elastic", "polynomial"),
    "perturb": real(1e-4, 0.5),
}
FAMILIES = {
    "onepfrac": ONEPFRAC,
    "fractaldb": FRACTALDB,
    "visualatom": VISUALATOM,
    "rcdb": RCDB,
    "ofdb": OFDB,
    "exfractaldb": EXFRACTALDB,
    "colorfractal": COLORFRACTAL,
    "multifractal": MULTIFRACTAL,
    "noise": NOISE,
    "singleimage": SINGLEIMAGE,
}
PLACE: dict[str, Kind] = {"mean": items(real(0, 1), 3), "std": items(real(0.001, 1000), 3)}
CROP: dict[str, Kind] = PLACE | {
    "scale": ordered(real(0, 1, above=0)),
    "ratio": ordered(real(1 / 8192, 8192)),
    "interpolation": word("nearest", "bilinear", "bicubic", "random"),
    "hflip": real(0, 1),
    "vflip": real(0, 1),
}
RESIZE = PLACE | {"interpolation": word("nearest", "bilinear", "bicubic")}
_ALPHA = either(real(0, 0), real(0.001, 1000))
DEIT: dict[str, Kind] = CROP | {
    "color_jitter": either(nothing, real(0, 10), items(real(0, 10), 3, 4)),
    "color_jitter_prob": real(0, 1),
    "force_color_jitter": flag,
    "grayscale_prob": real(0, 1),
    "gaussian_blur_prob": real(0, 1),
    "auto_augment": either(nothing, instance(str)),
    "re_prob": real(0, 1),
    "re_mode": word("const", "rand", "pixel"),
    "re_count": either(whole(1, 64), ordered(whole(1, 64))),
    "re_area": ordered(real(0, 1)),
    "re_aspect": ordered(real(1e-3, 1e3)),
    "mixup_alpha": _ALPHA,
    "cutmix_alpha": _ALPHA,
    "cutmix_minmax": ordered(real(0, 1)),
    "mixup_prob": real(0, 1),
    "mixup_switch_prob": real(0, 1),
    "mixup_mode": word("batch", "pair", "elem"),
    "mixup_off_epoch": whole(0, 2**63 - 1),
    "correct_lam": flag,
    "label_smoothing": real(0, 1),
    "num_aug_repeats": whole(0, 64),
}
DRAWN = {"numbers": either(BIT64, items(BIT64), lambda x: isinstance(x, np.ndarray) and x.size == 0)}
DRAW: dict[str, Kind] = DRAWN | {"seed": BIT64, "canvas_size": whole(1, 65535), "image_size": whole(1, 65535)}
LOADER: dict[str, Kind] = {
    "recipe": anything,
    "batch_size": whole(1, 2**31 - 1),
    "shuffle": flag,
    "sampler": lambda value: hasattr(value, "__iter__"),
    "batch_sampler": lambda value: hasattr(value, "__iter__"),
    "num_workers": whole(0, 2**31 - 1),
    "collate_fn": callable,
    "pin_memory": flag,
    "drop_last": flag,
    "timeout": real(0, 86_400),
    "worker_init_fn": callable,
    "multiprocessing_context": anything,
    "generator": instance(torch.Generator),
    "prefetch_factor": whole(0, 64),
    "persistent_workers": flag,
    "pin_memory_device": instance(str),
    "in_order": flag,
    "image_size": whole(1, 65535),
    "augment": lambda value: hasattr(value, "draw") and hasattr(value, "apply"),
    "device": lambda value: str(value) == "cpu" or str(value).startswith("cpu:"),
    "dtype": lambda value: value in (torch.float32, torch.float16, torch.bfloat16, torch.float64),
    "memory_format": lambda value: value in (torch.contiguous_format, torch.channels_last),
    "seed": BIT64,
    "fresh": flag,
    "rank": whole(0, 2**31 - 2),
    "world_size": whole(1, 2**31 - 1),
    "cache_bytes": BIT64,
}
