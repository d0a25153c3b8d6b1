"""The families of images, one file per family. A new family needs a file, an import and a public name."""

from gpurender.recipes.base import Recipe, presets, recipe
from gpurender.recipes.colorfractal import ColorFractal
from gpurender.recipes.exfractaldb import ExFractalDB
from gpurender.recipes.fractaldb import FractalDB
from gpurender.recipes.mixture import Mixture
from gpurender.recipes.moire import Moire
from gpurender.recipes.multifractal import MultiFractal
from gpurender.recipes.noise import Noise
from gpurender.recipes.ofdb import OFDB
from gpurender.recipes.onepfrac import OnePFrac
from gpurender.recipes.rcdb import RCDB
from gpurender.recipes.schedule import Schedule
from gpurender.recipes.singleimage import SingleImage
from gpurender.recipes.visualatom import VisualAtom

__all__ = [
    "OFDB",
    "RCDB",
    "ColorFractal",
    "ExFractalDB",
    "FractalDB",
    "Mixture",
    "Moire",
    "MultiFractal",
    "Noise",
    "OnePFrac",
    "Recipe",
    "Schedule",
    "SingleImage",
    "VisualAtom",
    "presets",
    "recipe",
]
