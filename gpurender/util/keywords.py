"""Keyword arguments of classes: an unknown one is refused with the name that was probably meant."""

import functools
import inspect
from collections.abc import Callable, Iterable
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
        refuse_unknown(cls.__name__, keywords, known)
        construct(self, *arguments, **keywords)

    cls.__init__ = construct_checked  # type: ignore[misc]
    return cls


def refuse_unknown(function: str, given: Iterable[str], known: list[str]) -> None:
    """Raise a ``TypeError`` for the first given keyword that a function does not take.

    The error names the known keyword that is most like it, or all of them.
    """
    for name in given:
        if name not in known:
            hint = checks.did_you_mean(name, known) or "; it takes " + ", ".join(known)
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")
