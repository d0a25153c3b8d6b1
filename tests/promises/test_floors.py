"""The house: which room may import which. No import points up, there is no circle, and private names stay private."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "gpurender"

# From the ground up; rooms on one floor may not import each other, but for the pairs in SIDE_BY_SIDE.
FLOORS = [
    {"util", "numerics"},
    {"runtime"},
    {"kernels"},
    {"recipes", "augment", "losses"},
    {"sheet"},
    {"renderer", "dataset"},
    {"loading"},
    {"interop", "tasks"},
    {"training"},
    {"search", "replay"},
    {"server"},
    {"benchmark"},
    {"commands"},
    {"__init__", "__main__"},
]
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
SIDE_BY_SIDE = {("numerics", "util"), ("dataset", "renderer")}


def modules() -> dict[str, Path]:
    """Modules below the package by dotted name, without its own; a package's is that of its ``__init__``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports, wherever in the file, for whatever reason."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "gpurender" or name.startswith("gpurender."):
                parts = name.split(".")[1:]
                while parts and ".".join(parts) not in MODULES and not (PACKAGE / Path(*parts)).is_dir():
                    parts.pop()
                yield ".".join(parts) or "__init__"


IMPORTS = {module: set(imported(path)) - {module} for module, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_points_up(module):
    """Lazy imports and those for type checkers count, too."""
    own = room(module)
    for other in IMPORTS[module]:
        theirs = room(other)
        if theirs != own and (own, theirs) not in SIDE_BY_SIDE and (theirs, own) not in SIDE_BY_SIDE:
            assert FLOOR[theirs] < FLOOR[own], f"{module} imports {other}"


def test_there_is_no_circle():
    """Imports are followed from module to module, within the rooms and between them. A package is not counted as
    importing its own parts only for being named in their paths.
    """
    done, under_way = set(), []

    def visit(module: str) -> None:
        if module in done or module not in MODULES:
            return
        assert module not in under_way, " -> ".join([*under_way[under_way.index(module) :], module])
        under_way.append(module)
        for other in sorted(IMPORTS[module]):
            visit(other)
        under_way.pop()
        done.add(module)

    for module in sorted(MODULES):
        visit(module)


# Of Numba's objects, and of named tuples, whose way it is
FOREIGN = {"_cache", "_reduce", "_rebuild", "_make", "_asdict", "_replace", "_fields"}


def _defined(tree: ast.Module) -> set[str]:
    """Names that a file defines, as variables, functions, classes or attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def _modules_of_others(tree: ast.Module) -> set[str]:
    """Names in a file that stand for modules, and parts of modules, of other packages."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] != "gpurender":
            found |= {alias.asname or alias.name for alias in node.names}
    return found - {"gpurender"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_touches_another_s_underscore_names(module):
    """A name with an underscore is of ``self`` or of the same file; those of other packages are their affair."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    own, others = _defined(tree), _modules_of_others(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "gpurender":
            private = [alias.name for alias in node.names if _private(alias.name)]
            assert not private, f"{module} imports {private} from {node.module}"
        if isinstance(node, ast.Attribute) and _private(node.attr):
            root = node.value
            direct = isinstance(root, ast.Name) and root.id in ("self", "cls")
            while isinstance(root, ast.Attribute):
                root = root.value
            foreign = isinstance(root, ast.Name) and root.id in others
            if not direct and not foreign and node.attr not in FOREIGN:
                assert node.attr in own, f"{module}:{node.lineno} touches {ast.unparse(node)}"


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
