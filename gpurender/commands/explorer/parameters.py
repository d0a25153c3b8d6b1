"""Parameters: what a recipe takes, read from its family's fields, docstrings and refusals; there is no second table.

A refusal names what is allowed: ``points must be an integer in [1, 10000000], got 'data:?'``. So a value that no
parameter allows is given for each parameter in turn, beside the present values of the others, on which the answer may
depend: the limit of ``sigma`` on ``maps``, the existence of ``axes`` on ``variant``.
"""

import functools
import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gpurender.commands.explorer.starts import STARTS
from gpurender.recipes.base import Recipe, from_data

PROBE = "data:?"  # allowed nowhere, and never taken for the path of a file
KINDS = {
    "integer": re.compile(r"must be an integer in \[(?P<low>[^,]+), (?P<high>[^\]]+)\]"),
    "real": re.compile(r"must be a finite number in \[(?P<low>[^,]+), (?P<high>[^\]]+)\]"),
    "choice": re.compile(r"must be one of (?P<choices>'[^']*'(?:, '[^']*')*)"),
    "boolean": re.compile(r"must be True or False"),
    "integers": re.compile(r"must be a pair \(low, high\) of integers"),
    "reals": re.compile(r"must be a pair \(low, high\) of numbers"),
    "picture": re.compile(r"a text must begin with 'data:image"),
}
ABSENT = re.compile(r"has no parameter|must be left out")
TABLE = re.compile(r"must be a table")
ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", re.MULTILINE)  # of the section Args
MARKS = (  # of reStructuredText
    (re.compile(r"``(.+?)``", re.DOTALL), r"\1"),
    (re.compile(r":\w+:`~?(?:\w+\.)*(.+?)`", re.DOTALL), r"\1"),
    (re.compile(r"\\([|*_])"), r"\1"),
    (re.compile(r"\s+"), " "),
)
GENERAL = tuple(field.name for field in fields(Recipe))


@dataclass(frozen=True)
class Parameter:
    """A parameter of a recipe.

    Attributes:
        name: its name.
        kind: ``"integer"``, ``"real"``, ``"integers"`` and ``"reals"`` (a pair low, high), ``"choice"``, ``"boolean"``,
            ``"picture"``, or ``"text"``: any JSON.
        low, high: the bounds of numbers.
        choices: the words of a choice.
        more: whether a table may stand in place of a word.
        off: whether ``None`` is a value of its own, and not the sign for a default.
        help: what the family's docstring says of it.
    """

    name: str
    kind: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    more: bool = False
    off: bool = False
    help: str = ""

    def data(self) -> dict[str, Any]:
        """Return the parameter as JSON values."""
        return asdict(self)


def described(data: Mapping[str, Any]) -> list[Parameter]:
    """Return the parameters that a recipe may state beside its present ones: the family's own, then the general ones.

    Args:
        data: the recipe's family and the values that it states, which are allowed.
    """
    kind = Recipe.families[data["family"]]
    names = [field.name for field in fields(kind)]
    ordered = [*(name for name in names if name not in GENERAL), *(name for name in GENERAL if name in names)]
    helps = _help(kind.family)
    found = (_described(data, name, helps.get(name, "")) for name in ordered)
    return [parameter for parameter in found if parameter is not None]


def _described(data: Mapping[str, Any], name: str, text: str) -> Parameter | None:
    """Return one parameter, or ``None`` if the recipe does not take it."""
    refusal = _refusal(data, name, PROBE)
    if ABSENT.search(refusal):
        return None
    kind, match = next(
        ((kind, match) for kind, form in KINDS.items() if (match := form.search(refusal))), ("text", None)
    )
    if kind in ("integers", "reals"):
        inner = _refusal(data, name, [PROBE, PROBE])
        match = KINDS["integer" if kind == "integers" else "real"].search(inner)
    parts = match.groupdict() if match else {}
    number = int if kind.startswith("integer") else float
    low, high = (number(parts[bound]) if bound in parts else None for bound in ("low", "high"))
    return Parameter(
        name, kind, low, high, tuple(re.findall(r"'([^']*)'", parts.get("choices", ""))),
        more=kind == "choice" and bool(TABLE.search(_refusal(data, name, [[PROBE]]))),
        off=kind != "text" and name in _offs(data["family"]), help=text,
    )  # fmt: skip


def _refusal(data: Mapping[str, Any], name: str, value: Any) -> str:
    """Return what a family says of a value that it does not allow."""
    try:
        from_data({**data, name: value})
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


@functools.cache
def _offs(family: str) -> frozenset[str]:
    """Return the parameters of a family for which ``None`` is a value of its own, looked for in its start."""
    data = {**STARTS.get(family, {}), "family": family}
    return frozenset(field.name for field in fields(Recipe.families[family]) if _keeps_none(data, field.name))


def _keeps_none(data: Mapping[str, Any], name: str) -> bool:
    try:
        return getattr(from_data({**data, name: None}), name) is None
    except (TypeError, ValueError):
        return False


@functools.cache
def _help(family: str) -> dict[str, str]:
    """Return what the docstrings of a family, and of those that it is a kind of, say of the parameters."""
    found: dict[str, str] = {}
    for each in reversed(Recipe.families[family].__mro__):
        section = inspect.cleandoc(each.__doc__ or "").partition("Args:\n")[2]
        for names, text in ENTRY.findall(section.partition("\n\n")[0]):
            for form, replacement in MARKS:
                text = form.sub(replacement, text)
            found |= dict.fromkeys(names.split(", "), text)
    return found
