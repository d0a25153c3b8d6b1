"""Packages that a test compares with: without one, what needs it is skipped, and no more."""

import importlib

import pytest


class Missing:
    """Stands for a module that is not there: the test that looks into it is skipped."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith("__"):  # pytest and copy look for these in everything
            raise AttributeError(attribute)
        pytest.skip(f"needs {self._name.partition('.')[0]}, which the extra 'test' brings")


def optional(name):
    """The module of that name, or what skips the test that uses it; for the top of a file of tests."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError):  # RuntimeError: torchvision beside a torch of another build
        return Missing(name)


def resizing_pillow():
    """Skip a test that resizes by a Pillow that took the axes in another order."""
    pytest.importorskip("PIL", minversion="13", reason="needs Pillow 13: before it, resize took the axes another way")
