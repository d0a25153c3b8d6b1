"""gpurender renders formula-driven pre-training images while the model trains on them.

>>> import gpurender as gr
>>> loader = gr.DataLoader("onepfrac-1k", batch_size=256, augment=gr.augment.Crop())
>>> images, targets = next(iter(loader))  # float32 [256, 3, 224, 224], int64 [256]

Importing this package does not import the modules of its public names; a name is looked up when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gpurender.runtime import forks
from gpurender.util.version import __version__ as __version__

if TYPE_CHECKING:
    from gpurender import augment, losses, replay, search, server, tasks, training
    from gpurender.commands.image_folder.export import export
    from gpurender.dataset import Dataset
    from gpurender.loading.cached import Cached
    from gpurender.loading.data_loader import DataLoader
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
    from gpurender.renderer import Renderer
    from gpurender.server.data_server import DataServer
    from gpurender.training.warm_up import warm_up

_ROOMS = ("augment", "losses", "replay", "search", "server", "tasks", "training")
_HOMES = {
    "Cached": "gpurender.loading.cached",
    "ColorFractal": "gpurender.recipes.colorfractal",
    "DataLoader": "gpurender.loading.data_loader",
    "DataServer": "gpurender.server.data_server",
    "Dataset": "gpurender.dataset",
    "ExFractalDB": "gpurender.recipes.exfractaldb",
    "FractalDB": "gpurender.recipes.fractaldb",
    "Mixture": "gpurender.recipes.mixture",
    "Moire": "gpurender.recipes.moire",
    "MultiFractal": "gpurender.recipes.multifractal",
    "Noise": "gpurender.recipes.noise",
    "OFDB": "gpurender.recipes.ofdb",
    "OnePFrac": "gpurender.recipes.onepfrac",
    "RCDB": "gpurender.recipes.rcdb",
    "Recipe": "gpurender.recipes.base",
    "Renderer": "gpurender.renderer",
    "Schedule": "gpurender.recipes.schedule",
    "SingleImage": "gpurender.recipes.singleimage",
    "VisualAtom": "gpurender.recipes.visualatom",
    "export": "gpurender.commands.image_folder.export",
    "presets": "gpurender.recipes.base",
    "recipe": "gpurender.recipes.base",
    "warm_up": "gpurender.training.warm_up",
}

__all__ = [
    "OFDB",
    "RCDB",
    "Cached",
    "ColorFractal",
    "DataLoader",
    "DataServer",
    "Dataset",
    "ExFractalDB",
    "FractalDB",
    "Mixture",
    "Moire",
    "MultiFractal",
    "Noise",
    "OnePFrac",
    "Recipe",
    "Renderer",
    "Schedule",
    "SingleImage",
    "VisualAtom",
    "augment",
    "export",
    "losses",
    "presets",
    "recipe",
    "replay",
    "search",
    "server",
    "tasks",
    "training",
    "warm_up",
]


if not TYPE_CHECKING:  # a type checker would take every name for one of the module's

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            with forks.IMPORTS:
                return importlib.import_module(f"gpurender.{name}")
        if name in _HOMES:
            with forks.IMPORTS:
                value = getattr(importlib.import_module(_HOMES[name]), name)
                importlib.import_module("gpurender.renderer")  # gives recipes the pictures that notebooks show
            globals()[name] = value
            return value
        raise AttributeError(f"module 'gpurender' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
