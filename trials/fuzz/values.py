"""Values that nobody should pass, and the ways to spoil a good one: what fuzzing is made of.

Everything is chosen by a ``random.Random``, so a case is named by its seed and number. Values are made anew for each
case, because some of them can be used only once.
"""

import copy
import fractions
import itertools
import pathlib
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import torch


class HostileError(Exception):
    """What a hostile object raises where it is used: that may come through, with its traceback."""


class ReprError(Exception):
    """What it raises where it is only shown, as in the message of a refusal."""


class Hostile:
    """An object one of whose special methods raises; the others are object's own."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _raises(self: object, *arguments: object) -> Any:
    raise HostileError


def _no_repr(self: object) -> Any:
    raise ReprError


def hostile(base: type = Hostile, value: Any = None, **methods: Callable[..., Any]) -> Any:
    """An instance of a class with these special methods (``len`` for ``__len__``)."""
    name = "Hostile" + "".join(sorted(method.capitalize() for method in methods))
    cls = type(name, (base,), {f"__{method}__": body for method, body in methods.items()})
    return cls() if base is Hostile else cls(value)


HOSTILE: tuple[Callable[[], Any], ...] = (
    lambda: hostile(repr=_no_repr),
    lambda: hostile(len=_raises),
    lambda: hostile(len=_raises, getitem=_raises),
    lambda: hostile(len=lambda self: -1),
    lambda: hostile(len=lambda self: 2, getitem=_raises),
    lambda: hostile(len=lambda self: 2**62, getitem=lambda self, i: 0.5),  # it has an item at every index
    lambda: hostile(iter=_raises),
    lambda: hostile(iter=lambda self: itertools.repeat(0.5)),
    lambda: hostile(iter=lambda self: 3),
    lambda: hostile(index=_raises),
    lambda: hostile(index=lambda self: "1"),
    lambda: hostile(float=_raises),
    lambda: hostile(float=lambda self: float("nan")),
    lambda: hostile(eq=_raises, hash=_raises),
    lambda: hostile(bool=_raises),
    lambda: hostile(getattr=_raises),
    lambda: hostile(fspath=_raises),
    lambda: hostile(fspath=lambda self: b"\xff"),
    lambda: hostile(int, 3, repr=_no_repr),
    lambda: hostile(str, "paper", eq=_raises, hash=_raises),
    lambda: hostile(list, [1, 2], len=_raises),
    lambda: hostile(list, [1, 2], iter=_raises),
    lambda: hostile(dict, {}, iter=_raises, getitem=_raises),
)

NUMBERS: tuple[Callable[[], Any], ...] = tuple(
    (lambda value=value: value)
    for value in (
        *(0, 1, 2, 3, 7, -1, -(2**63), 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400),
        *(0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e308, -1e308, 1e400, -1e400, float("nan"), 5e-324, 1e-40, 1e6, 2.0**64),
        *(True, False, None, 1j, complex("nan"), 10**5000, -(10**5000)),
        *(np.int8(-1), np.int64(3), np.uint64(2**64 - 1), np.float64(0.25), np.float32("nan"), np.float16("inf")),
        *(
            np.bool_(True),
            np.bool_(False),
            np.complex64(1),
            np.datetime64("NaT"),
            np.timedelta64(1, "s"),
            np.void(b"1"),
        ),
        *(Decimal("0.5"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e999999")),
        *(fractions.Fraction(1, 3), fractions.Fraction(10**400), fractions.Fraction(3)),
    )
) + tuple(
    (lambda value=value: torch.tensor(value))
    for value in (3, -1, 0.5, float("nan"), True, [], [1, 2], [True], [[0.5] * 6] * 2, 1j)
)

TEXTS: tuple[Callable[[], Any], ...] = tuple(
    (lambda value=value: value)
    for value in (
        *("", " ", "0", "1", "-1", "1.5", "nan", "inf", "1_0", "١٢", "１", "²", "1e400", "0x10", "true", "None", "[]"),
        *("paper", "released", "Paper", " paper", "random", "fill", "small", "pixel", "patch_gray", "cuda", "cpu:0"),
        *("\ud800", "\x00", "\n", "\u2028", "a" * 10_000, "{}", "%s", "../..", "/", "cuda:-1", "cuda:999999999999999"),
        *("rand", "rand-m٩", "rand-m" + "9" * 400, "rand-m" + "9" * 5000, "rand-m9-mstd1e400", "rand-m9-n17", "3a-m1"),
        *("rand-m9-m9", "rand-p1e400", "rand-mmax0", "rand--", "v0-mstd1e309", "original-mstd", "augmix-m5"),
        *(b"", b"1", b"paper", np.str_("paper"), np.bytes_(b"1"), bytearray(b"1"), memoryview(b"12")),
    )
)


def _deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _circle() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


COLLECTIONS: tuple[Callable[[], Any], ...] = (
    *(list, tuple, dict, set, lambda: [[]], lambda: [[], []], lambda: [None], lambda: [float("nan")]),
    *(lambda: (0, 0), lambda: (0.0, 0.0), lambda: (2, 1), lambda: (1, 2, 3), lambda: (True, False), lambda: ("0", "1")),
    *(lambda: (None, None), lambda: [[1, 2], [3]], lambda: [[0.5] * 5], lambda: [[0.0] * 6], lambda: [[0.5] * 6] * 65),
    *(lambda: [[float("nan")] * 6], lambda: [[1e308] * 6] * 2, lambda: [[0.5] * 6 + [-1.0]], lambda: [[1e-320] * 7]),
    *(lambda: {0: 1}, lambda: {0: 1, 1: 2}, lambda: {"a": 1, "b": 2}, lambda: {1, 2}, lambda: {0.25, 0.5, 0.75}),
    *(lambda: range(3), lambda: range(2**62), itertools.count, lambda: iter([]), lambda: (x for x in (1, 2))),
    *(lambda: [[[0.5] * 6] * 2], lambda: [[[0.5] * 7] * 2, 3], lambda: [itertools.count()], lambda: ["ab", "cd"]),
    *(lambda: np.zeros((2, 6)), lambda: np.full((2, 7), np.nan), lambda: np.zeros((0, 6)), lambda: np.zeros((2, 3, 6))),
    *(
        lambda: np.array(3),
        lambda: np.array([3]),
        lambda: np.array([]),
        lambda: np.array("x"),
        lambda: np.array([[1j]]),
    ),
    *(lambda: np.array([None, 1]), lambda: np.array([True, True]), lambda: np.array([1, 2], np.uint64) << 63),
    *(lambda: np.zeros(2, [("a", "f8")]), lambda: np.full((2, 6), 0.5, np.float16), lambda: np.ones((2, 6), bool)),
    *(lambda: _deep(50), lambda: _deep(100_000), _circle),
)

OBJECTS: tuple[Callable[[], Any], ...] = (
    *(object, lambda: int, lambda: Ellipsis, lambda: NotImplemented, lambda: ValueError("x"), lambda: len, lambda: np),
    *(
        lambda: lambda *arguments: None,
        lambda: pathlib.Path("nowhere.json"),
        lambda: pathlib.Path("/"),
        torch.Generator,
    ),
    *(lambda: torch.float16, lambda: torch.int8, lambda: torch.device("cpu"), lambda: torch.device("meta")),
    *(lambda: torch.channels_last, lambda: torch.preserve_format, lambda: np.random.default_rng(0)),
)

POOLS = (NUMBERS, NUMBERS, TEXTS, COLLECTIONS, OBJECTS, HOSTILE)


def nasty(rng: Random) -> Any:
    """Any of the values above."""
    return rng.choice(rng.choice(POOLS))()


def spoiled(rng: Random, value: Any) -> Any:
    """A value made from a good one: another altogether, a relative of it, or it with something inside spoiled."""
    way = rng.random()
    if type(value) in (list, tuple, dict) and value and way < 0.5:
        return _within(rng, value)
    if type(value) in (bool, int, float, str) and way < 0.3:
        try:
            return _relative(rng, value)
        except (OverflowError, ValueError):  # of 10**400 as a float, NaN as an integer, 10**5000 as a text
            pass
    return nasty(rng)


def _relative(rng: Random, value: Any) -> Any:
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return rng.choice(
            [value.upper(), value + " ", value[:at], value[:at] + "\x00" + value[at:], [value], value * 9]
        )
    ways: list[Callable[[Any], Any]] = [
        *(lambda x: -x, lambda x: x + 1, lambda x: x - 1, lambda x: x * 10**6, lambda x: x * 1.0, lambda x: x + 0.5),
        *(str, bool, lambda x: [x], lambda x: (x, x), lambda x: np.float64(x), lambda x: np.array([x]), lambda x: {x}),
    ]
    return rng.choice(ways)(value)


def _within(rng: Random, value: Any) -> Any:
    if isinstance(value, dict):
        changed = copy.copy(value)
        key = rng.choice(list(value))
        old = changed.pop(key)
        way = rng.randrange(3)
        if way == 0:
            changed[key] = spoiled(rng, old)
        elif way == 1:
            try:
                changed[nasty(rng)] = old
            except (TypeError, HostileError):  # what cannot be a key
                changed[""] = old
        return changed
    items, at = list(value), rng.randrange(len(value))
    way = rng.randrange(5)
    if way <= 1:
        items[at] = spoiled(rng, items[at])
    elif way == 2:
        del items[at]
    elif way == 3:
        items.insert(at, items[at])
    else:
        items.append(nasty(rng))
    return tuple(items) if isinstance(value, tuple) and rng.random() < 0.5 else items


# ----------------------------------------------------------------------------------------------------------- text

# What breaks readers of JSON and of tables: as text, put anywhere.
SNIPPETS = (
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-0.0",
        "1" * 5000,
        "9" * 30,
        "true",
        "null",
        '""',
        "[]",
        "{}",
        "[",
        "{",
    ),
    *('"', "'", ",", ":", ",,", ";", "\n", "\r", "\r\n", "\t", "\x00", "\x1c", "\x85", "\u2028", "\ufeff", "\\ud800"),
    *("\\u0000", "١", "１", "1_0", "0x1", "+1", ".5", "5.", "1e", "--1", "#", "//", "/*", "[" * 2000, '{"a":' * 2000),
    *('"seed": 1,', '"classes": 2,', '"family": "onepfrac",', '"gpurender": 1,', '"epoch": 0,', '"": 0,', "\U0001f600"),
)


def spoiled_text(rng: Random, text: str) -> str:
    """A text with one to three places cut, doubled, swapped or filled with a snippet."""
    for _ in range(rng.randint(1, 3)):
        a, b = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        b = min(b, a + rng.choice((0, 1, 2, 8, 1000)))
        way = rng.randrange(4)
        if way == 0:
            text = text[:a] + text[b:]
        elif way == 1:
            text = text[:b] + text[a:]
        elif way == 2:
            text = text[:a] + rng.choice(SNIPPETS) + text[b:]
        else:
            text = text[:a] + chr(rng.choice((rng.randrange(128), rng.randrange(0xD7FF)))) + text[b:]
    return text


def encoded(rng: Random, text: str) -> bytes:
    """The text as bytes, mostly UTF-8, sometimes another encoding or with a bad byte."""
    data = text.encode(rng.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-32")), "surrogatepass")
    if rng.random() < 0.1:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + bytes([rng.randrange(256)]) + data[at:]
    return data
