"""Keyword arguments of classes: an unknown one is refused with the name that was probably meant."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from gpurender.util import checks

Class = TypeVar("Class", bound=type)
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def checked(cls: Class) -> Class:
    """Return a class whose constructor refuses an unknown keyword with a suggestion; Python 3.13 is the first to do so.

    Signature, documentation, pickling and copying of the class are unchanged, because only ``__init__`` is wrapped. A
    subclass with its own ``__init__`` is checked where this calls the constructor of ``cls``.
    """
    construct = cast(Callable[..., None], vars(cls)["__init__"])
    parameters = list(inspect.signature(construct).parameters.values())[1:]  # without self
    known = [parameter.name for parameter in parameters if parameter.kind in NAMED]

    @functools.wraps(construct)
    def construct_checked(self: Any, *arguments: Any, **keywords: Any) -> None:
        for name in keywords:
            if name not in known:
                raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {_hint(name, known)}")
        construct(self, *arguments, **keywords)

    cls.__init__ = construct_checked  # type: ignore[misc]
    return cls


def _hint(name: str, known: list[str]) -> str:
    """Return an unknown name in quotes, with the known one that is most like it, or with all of them."""
    return f"{name!r}{checks.did_you_mean(name, known) or '; it takes ' + ', '.join(known)}"
