"""Keyword arguments of classes and functions: an unknown one is refused with the name that was probably meant."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from gpurender.util import checks

Checked = TypeVar("Checked", bound=Callable[..., Any])
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def checked(thing: Checked) -> Checked:
    """Return a class or function that refuses an unknown keyword with a suggestion; Python 3.13 is the first to do so.

    Signature and documentation are unchanged. So are pickling and copying of a class, because only ``__init__`` is
    wrapped; a subclass with its own ``__init__`` is checked where this calls the constructor of the class.
    """
    if not isinstance(thing, type):
        return cast(Checked, _wrapped(thing, thing.__name__))
    thing.__init__ = _wrapped(vars(thing)["__init__"], thing.__name__)  # type: ignore[misc]
    return thing


def _wrapped(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function that refuses unknown keywords under a name."""
    parameters = inspect.signature(call).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind in NAMED and parameter.name != "self"]

    @functools.wraps(call)
    def call_checked(*arguments: Any, **keywords: Any) -> Any:
        refuse_unknown(name, keywords, known)
        return call(*arguments, **keywords)

    return call_checked


def refuse_unknown(function: str, given: Iterable[str], known: list[str]) -> None:
    """Raise a ``TypeError`` for the first given keyword that a function does not take.

    The error names the known keyword that is most like it, or all of them.
    """
    for name in given:
        if name not in known:
            hint = checks.did_you_mean(name, known) or "; it takes " + ", ".join(known)
            raise TypeError(f"{function}() got an unexpected keyword argument {checks.shown(name)}{hint}")
