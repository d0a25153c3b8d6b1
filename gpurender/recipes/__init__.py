"""The families of images: one file a family. A new family is a file here, a line in FAMILIES and its presets."""

from collections.abc import Callable

from gpurender.recipes.base import Recipe
from gpurender.recipes.fractaldb import FractalDB
from gpurender.recipes.mixture import Mixture
from gpurender.recipes.onepfrac import OnePFrac
from gpurender.recipes.visualatom import VisualAtom

FAMILIES: dict[str, type[Recipe]] = {family.family: family for family in (OnePFrac, FractalDB, VisualAtom, Mixture)}

PRESETS: dict[str, Callable[[], Recipe]] = {
    "onepfrac-1k": OnePFrac,
    "onepfrac-21k": lambda: OnePFrac(classes=21_000),
    "fractaldb-1k": FractalDB,
    "visualatom-1k": VisualAtom,
    "visualatom-21k": lambda: VisualAtom(classes=21_000),
}
