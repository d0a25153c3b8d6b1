"""Small faults of source code: which there are, which are left out, and a random order of them.

The operators are those of cosmic-ray, and two of our own (a statement removed, a keyword argument dropped). Left out is
what no test can or should notice: annotations and aliases of types, texts of messages and of help, what is logged,
assertions (``assert``, zip's ``strict``), caches of functions, which are speed alone, and the looks of a diagram.
"""

import ast
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

PACKAGE = "gpurender"
COMPILED = ("@kernel", "@njit", "@triton.jit")  # marks files of compiled code: faults there show otherwise, in minutes

# An operator becomes one of its own kind: any other is a TypeError, which every test would notice.
KINDS = (("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod"), ("RShift", "LShift", "BitOr", "BitAnd", "BitXor"))
IDENTITY = {frozenset(("Eq", "Is")), frozenset(("NotEq", "IsNot"))}  # the same for what is interned
ARGUMENTS = ("VariableInserter", "VariableReplacer")  # operators that need to be told names

CACHES = ("functools.cache", "functools.lru_cache", "cache", "lru_cache")
TYPING = ("overload", "abstractmethod")
LOGS = ("_log.", "log.", "logging.", "logger.")
SAID = (*LOGS, "print", "warnings.warn", "parser.error", "sys.exit")
WORDS = (
    "strict", "help", "metavar", "description", "epilog", "desc", "unit", "stacklevel",
    "color", "fontsize", "linewidth", "loc",
)  # fmt: skip


class RemoveStatement(Operator):
    """Replaces a call, an augmented assignment, a deletion or a ``raise`` by ``pass``."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the place of a statement that can be left out and the code stays valid."""
        if _is_statement(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return ``pass`` where the statement stood."""
        first = node.get_first_leaf()
        statement = get_ast("pass").children[0]
        statement.get_first_leaf().prefix = first.prefix
        return statement

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Return none: cosmic-ray's own tests use them."""
        return ()


class DropKeyword(Operator):
    """Drops a keyword argument of a call."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the place of each keyword argument."""
        for argument in _keywords(node):
            yield argument.start_pos, argument.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return the arguments without the one, and without the comma behind or before it."""
        at = node.children.index(list(_keywords(node))[index])
        commas = [i for i in (at + 1, at - 1) if 0 <= i < len(node.children) and node.children[i] == ","]
        for i in sorted([at, *commas[:1]], reverse=True):
            del node.children[i]
        return node

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Return none: cosmic-ray's own tests use them."""
        return ()


OWN = {operator.__name__: operator for operator in (RemoveStatement, DropKeyword)}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault: ``operator`` applied to ``path`` (below the root) where cosmic-ray counts ``occurrence``.

    ``lines`` are those of the statement, or of the head of a block, that it stands in; ``once``: whether a process
    runs it once, when it imports the module or first calls a cached function: later tests use the result, and coverage
    does not see that.
    """

    path: str
    line: int
    column: int
    operator: str
    occurrence: int
    lines: tuple[int, int]
    once: bool

    def applied(self, source: str) -> str | None:
        """Return the mutated source, or ``None`` where nothing changes or the result is no Python."""
        try:
            changed = mutate_code(source, _operator(self.operator), self.occurrence)
            same = changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
        except (SyntaxError, AttributeError):  # AttributeError: of an exception with a dotted name, by cosmic-ray
            return None
        return None if same else changed


def modules(root: Path) -> list[str]:
    """Return the modules whose faults are tried, as paths below ``root``."""
    found = {path: path.read_text(encoding="utf-8") for path in sorted((root / PACKAGE).rglob("*.py"))}
    return [str(path.relative_to(root)) for path, text in found.items() if not any(mark in text for mark in COMPILED)]


def mutants(source: str, path: str) -> list[Mutant]:
    """Return all mutants of a module that are not left out."""
    found = []
    nodes = [node for node in ast_nodes(get_ast(source)) if node.type not in ("name", "newline", "string", "endmarker")]
    for name in operator_names():
        operator, occurrence = _operator(name), itertools.count()
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                number = next(occurrence)
                leaf = _leaf(node, start)
                if not _left_out(name, node, leaf):
                    lines, level = _statement(leaf)
                    once = level or _is_cached(leaf)
                    found.append(Mutant(path, start[0], start[1], name, number, lines, once))
    return found


def drawn(root: Path, seed: int, paths: list[str]) -> Iterator[tuple[Mutant, str]]:
    """Yield mutants and their sources in a random order: every place of every module once, with one of its operators.

    Places are equally likely, however many operators each has. The order depends on the sources and the seed alone, so
    a longer run begins with a shorter one's mutants.
    """
    sources = {path: (root / path).read_text(encoding="utf-8") for path in paths}
    places: dict[tuple[str, int, int], list[Mutant]] = {}
    for path, source in sources.items():
        for mutant in mutants(source, path):
            places.setdefault((path, mutant.line, mutant.column), []).append(mutant)
    draws = Random(seed)
    order = sorted(places)
    draws.shuffle(order)
    for place in order:
        mutant = draws.choice(places[place])
        changed = mutant.applied(sources[mutant.path])
        if changed is not None:
            yield mutant, changed


def operator_names() -> list[str]:
    """Return the names of the operators that are used."""
    return [name for name in OperatorProvider() if name not in ARGUMENTS and _kindred(name)] + list(OWN)


def _kindred(name: str) -> bool:
    if name.startswith("ReplaceBinaryOperator_"):
        return any(set(name.split("_")[1:]) <= set(kind) for kind in KINDS)
    return frozenset(name.split("_")[1:]) not in IDENTITY


def _operator(name: str) -> Any:
    return OWN[name]() if name in OWN else OperatorProvider()[name]()


def _is_statement(node: Any) -> bool:
    """Whether it is a simple statement that does something and binds no name anew."""
    if node.parent is None or node.parent.type != "simple_stmt":
        return False
    if node.type in ("raise_stmt", "del_stmt") or (node.type == "keyword" and node.value == "raise"):
        return True
    if node.type == "expr_stmt":
        return (node.children[1].type == "operator" and node.children[1].value != "=") or "." in _target(node)
    return node.type in ("atom_expr", "power") and node.children[-1].type == "trailer"


def _target(node: Any) -> str:
    """What an assignment assigns to, if it is an attribute or an element; empty for names and annotations."""
    first = node.children[0]
    return first.get_code() if first.type in ("atom_expr", "power") and node.children[1].type != "annassign" else ""


def _keywords(node: Any) -> Iterator[Any]:
    """Yield the keyword arguments right below a list of arguments, or below the brackets of a call with one alone."""
    if node.type == "arglist" or (node.type == "trailer" and node.children[0].value == "("):
        for child in node.children:
            if child.type == "argument" and child.children[1] == "=" and child.parent.type != "classdef":
                yield child


def _leaf(node: Any, start: tuple[int, int]) -> Any:
    leaf = node.get_leaf_for_position(start) if hasattr(node, "children") else node
    return leaf or node


def _left_out(name: str, node: Any, leaf: Any) -> bool:
    """Whether no test can or should notice the fault."""
    if name == "RemoveDecorator":
        text = node.get_code().strip().lstrip("@")
        return text.split("(")[0] in CACHES or text.split(".")[-1] in TYPING
    child = leaf
    for parent in _above(leaf):
        if parent.type in ("assert_stmt", "import_from", "import_name", "fstring_format_spec"):
            return True
        if parent.type == "raise_stmt" and name != "RemoveStatement":
            return True
        if parent.type == "annassign" and child is parent.children[1]:
            return True
        if parent.type == "tfpdef" or (parent.type == "funcdef" and _is_returned(parent, child)):
            return True
        if parent.type == "argument" and parent.children[0].type == "name" and parent.children[0].value in WORDS:
            return True
        if parent.type in ("atom_expr", "power") and _says(parent) and (name != "RemoveStatement" or _logs(parent)):
            return True
        if parent.type == "if_stmt" and "TYPE_CHECKING" in parent.children[1].get_code():
            return True
        if parent.type == "expr_stmt" and _is_message(parent):
            return True
        child = parent
    if leaf.type == "operator" and leaf.parent.type == "parameters":
        return True  # the * before keywords
    return leaf.type == "operator" and leaf.value == "|" and _statement(leaf)[1]  # an alias of types


def _above(node: Any) -> Iterator[Any]:
    while node.parent is not None:
        node = node.parent
        yield node


def _is_returned(function: Any, child: Any) -> bool:
    return function.annotation is not None and child is function.annotation


def _is_message(assignment: Any) -> bool:
    """Whether what is assigned is of use for errors alone."""
    function = next((parent for parent in _above(assignment) if parent.type == "funcdef"), None)
    names = {name.value for name in assignment.get_defined_names()}
    if function is None or len(names) != 1:
        return False
    uses = [leaf for leaf in ast_nodes(function) if leaf.type == "name" and leaf.value in names]
    others = [leaf for leaf in uses if assignment not in _above(leaf)]
    return bool(others) and all(any(parent.type == "raise_stmt" for parent in _above(leaf)) for leaf in others)


def _says(call: Any) -> bool:
    """Whether something is logged, printed or warned of here."""
    text = call.get_code().strip()
    return any(text.startswith(word if word.endswith(".") else f"{word}(") for word in SAID)


def _logs(call: Any) -> bool:
    return call.get_code().strip().startswith(LOGS)


def _is_cached(leaf: Any) -> bool:
    """Return whether a leaf stands in the body of a function whose results are cached."""
    decorators = [parent.children[0].get_code() for parent in _above(leaf) if parent.type == "decorated"]
    return any(text.strip().lstrip("@").split("(")[0] in CACHES for text in decorators)


def _statement(leaf: Any) -> tuple[tuple[int, int], bool]:
    """Lines of the statement or head of a block that a leaf stands in; whether an import executes it."""
    lines, level, child = None, True, leaf
    for parent in _above(leaf):
        if lines is None and parent.type in ("simple_stmt", "decorator"):
            lines = (parent.start_pos[0], max(parent.start_pos[0], parent.end_pos[0] - 1))
        if lines is None and parent.type.endswith("_stmt") and parent.children[-1].type in ("suite", "simple_stmt"):
            lines = (child.start_pos[0], child.end_pos[0])
        if parent.type in ("funcdef", "lambdef"):
            if lines is None:
                lines = (parent.start_pos[0], child.end_pos[0])
            if child is parent.children[-1]:
                level = False
        child = parent
    return lines or (leaf.start_pos[0], leaf.end_pos[0]), level
