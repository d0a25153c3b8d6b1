"""Moved: use gpurender.recipes (a submodule named recipe would hide the function gr.recipe). Removed before the session ends."""
from gpurender.recipes import Recipe, recipe  # noqa: F401
