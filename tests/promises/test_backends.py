"""Dispatch: every backend has the functions that an operation calls, and what is missing is said by name."""

import ast

import pytest
import torch

from gpurender.runtime import dispatch
from tests.support import ROOT

KERNELS = ROOT / "gpurender/kernels"


def calls():
    """Operation, part and function of every call of an implementation in the operations' ``__init__.py``."""
    for path in sorted(KERNELS.glob("*/__init__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
            asked = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _is_dispatch(node)]
            for call in asked:
                constants = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
                operation, part = (*constants, "")[:2]
                used = [
                    node.attr
                    for node in ast.walk(function)
                    if isinstance(node, ast.Attribute)
                    and (node.value is call or (isinstance(node.value, ast.Name) and node.value.id == "implementation"))
                ]
                for name in used:
                    yield operation, part, name


def _is_dispatch(node):
    return isinstance(node.func, ast.Attribute) and node.func.attr == "implementation"


def names(path):
    """Functions that a file defines."""
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


CALLS = sorted(set(calls()))


def test_every_operation_is_dispatched():
    folders = {path.parent.name for path in KERNELS.glob("*/__init__.py")} - {"device"}
    assert {operation for operation, _, _ in CALLS} == folders


@pytest.mark.parametrize("backend", sorted(set(dispatch.BACKENDS.values())))
@pytest.mark.parametrize(("operation", "part", "function"), CALLS)
def test_every_backend_has_the_function(backend, operation, part, function):
    file = KERNELS / operation / (f"{backend}_{part}.py" if part else f"{backend}.py")
    assert function in names(file)


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ValueError, match="device must be of type cpu or cuda, got meta"):
        dispatch.implementation("philox", torch.device("meta"))
    monkeypatch.setitem(dispatch.BACKENDS, "meta", "abacus")
    with pytest.raises(NotImplementedError, match=r"philox has no implementation .*gpurender\.kernels\.philox\.abacus"):
        dispatch.implementation("philox", torch.device("meta"))
    assert dispatch.implementation("philox", torch.device("cpu")).__name__ == "gpurender.kernels.philox.cpu"
