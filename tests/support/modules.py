"""Modules that a function of the same name hides in their package."""

import importlib
import sys
from types import ModuleType


def module(name: str) -> ModuleType:
    """Return the module of a dotted name, such as ``"gpurender.training.probe"``."""
    importlib.import_module(name)
    return sys.modules[name]
