"""Policies as text: a policy's ``repr`` stands in checkpoints and records, and is read again here."""

import ast
from typing import Any

from gpurender.augment import named
from gpurender.augment.crop import Crop
from gpurender.augment.deit import DeiT
from gpurender.augment.policy import Policy
from gpurender.augment.resize import Resize
from gpurender.augment.views import MultiCrop, TwoViews
from gpurender.util import checks

KINDS: dict[str, type[Policy]] = {kind.__name__: kind for kind in (Crop, DeiT, MultiCrop, Resize, TwoViews)}


def policy_of(text: str, name: str = "augment") -> Policy:
    """Return the policy whose ``repr``, or whose name, a text is. Nothing in the text is executed.

    Args:
        text: such as ``"deit"`` or ``"Crop(scale=(0.2, 1.0), ratio=(1.0, 1.0))"``.
        name: of the argument, for errors.

    Raises:
        TypeError, ValueError: this is no text, neither a name nor the ``repr`` of a policy of this package, or a value
            in it is not allowed.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a policy's name or its repr, got {checks.shown(text)}")
    if "(" not in text:
        return named.policy(text, name)
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    if not isinstance(call, ast.Call):
        raise ValueError(f"{name} must be a policy's name or its repr, got {checks.shown(text)}")
    policy: Policy = _value(call, name)
    return policy


def _value(node: ast.AST, name: str) -> Any:
    """Return the value of a part of a ``repr``: a policy, a tuple or list of values, or a literal."""
    if isinstance(node, ast.Call):
        kind = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if kind not in KINDS:
            raise ValueError(
                f"{name} must be a policy of gpurender.augment ({', '.join(KINDS)}), and its text names {kind!r}: "
                "give the policy itself"
            )
        given = [_value(argument, name) for argument in node.args]
        return KINDS[kind](*given, **{str(word.arg): _value(word.value, name) for word in node.keywords})
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(each, name) for each in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise ValueError(f"{name} must be a policy's repr, and {ast.unparse(node)!r} in it is no value") from None
