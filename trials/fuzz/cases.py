"""Malformed recipes, states and arguments, and what must become of each: accepted and sound, or refused by name.

A case is a valid call with one to three fields spoiled (``values.py``). It is a *finding* if

- anything else than a ValueError or TypeError that names a parameter (or file and line) comes out of it, or nothing
  comes within :data:`LIMIT` seconds;
- it is accepted although a value is not of the kind that is documented (NaN, a bool for an integer, out of range …);
- what was accepted is not sound: a recipe that its JSON does not give back, a state that is not the place, a batch of
  another shape.
"""

import contextlib
import dataclasses
import re
import signal
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from trials.fuzz.targets import TABLE, WEIGHTS, Target, UnsoundError, targets
from trials.fuzz.values import HostileError, encoded, nasty, spoiled, spoiled_text

LIMIT = 5.0  # seconds for a case
LONGEST = 1000  # characters of a message, which should be one readable line


class HangError(BaseException):
    """A case took longer than its limit. (No Exception, which the code under test might swallow.)"""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise HangError in this (main) thread when the time is over."""

    def ring(*_: object) -> None:
        raise HangError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclasses.dataclass
class Case:
    """Arguments for a target; of ``spoils`` only those in ``keep`` are done."""

    target: str
    arguments: dict[str, Any]
    spoiled: tuple[str, ...]


MISSING, UNKNOWN = "(left out)", "(unknown)"


def case(seed: int, number: int, keep: tuple[int, ...] = (0, 1, 2), only: str | None = None) -> Case:
    """Case ``number``: the same arguments for the same seed, whichever process asks.

    Args:
        seed: of all cases.
        number: of the case.
        keep: which of its spoiled fields stay spoiled, to find out which one matters.
        only: a target's name, instead of a random one.
    """
    rng = Random(f"{seed}/{number}/{only}")
    some = targets()
    name = only or rng.choices(list(some), [t.share for t in some.values()])[0]
    target = some[name]
    arguments = dict(rng.choice(target.starts))
    spoils = [(_field(rng, target, arguments), rng.getrandbits(64)) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    done = []
    for i, (field, key) in enumerate(spoils):
        if i in keep:
            done.append(_spoil(Random(key), name, arguments, field))
    return Case(name, arguments, tuple(done))


def _field(rng: Random, target: Target, arguments: dict[str, Any]) -> str:
    way = rng.random()
    if way < 0.8 or target.fixed:
        return rng.choice(list(arguments) if way < 0.95 else [MISSING])
    return rng.choice(list(target.kinds)) if way < 0.95 else rng.choice((MISSING, UNKNOWN))


def _spoil(rng: Random, name: str, arguments: dict[str, Any], field: str) -> str:
    """Spoil a field of the arguments; its name."""
    if field == MISSING:
        field = rng.choice(list(arguments))
        if len(arguments) > 1:
            del arguments[field]
    elif field == UNKNOWN:
        field = rng.choice(("", "clases", "classes ", "__class__", "_recipe", "ünïcode", "points"))
        arguments[field] = nasty(rng)
    elif name in ("csv-text", "json-text", "study-text") and isinstance(arguments.get(field), (str, bytes)):
        text = arguments[field] if isinstance(arguments[field], str) else arguments[field].decode("utf-8", "replace")
        text = spoiled_text(rng, text)
        arguments[field] = encoded(rng, text) if name != "json-text" or rng.random() < 0.3 else text
    elif name == "csv-text":
        arguments[field] = rng.choice((b"", b"\n", TABLE.encode() * 200, WEIGHTS.encode(), bytes(range(256))))
    else:
        arguments[field] = spoiled(rng, arguments[field]) if field in arguments else nasty(rng)
    return field


@dataclasses.dataclass
class Finding:
    """Something that must not be.

    Attributes:
        number: of the case.
        case: the arguments, shortened.
        what: happened.
        where: in the library, file and line, or "".
        signature: equal for findings with one cause, as far as can be seen.
    """

    number: int
    target: str
    case: str
    what: str
    where: str
    signature: str


def shown(value: Any) -> str:
    """A value in at most 120 characters, whatever its repr does."""
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    text = text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"
    return text.encode("ascii", "backslashreplace").decode()


def names_it(error: Exception, some: Case, target: Target) -> bool:
    """Whether a message names what was spoiled, or begins with another parameter (as one that no longer fits)."""
    message = str(error)
    if re.search("unexpected keyword argument|required (keyword-only|positional) argument", message):
        return True  # Python's own
    if some.target == "json-text":
        return message.startswith(("not a recipe: ", "a recipe's JSON must be"))
    if some.target.startswith("csv-") and re.search(r"\.csv|folder|cannot be read", message):
        return True
    if some.target.startswith("study-") and re.search(r"^study: |\.json is (damaged|no result)", message):
        return True
    if some.target == "MultiCrop":
        return "crops" in message or "views" in message
    if some.target == "state" and "state must" in message:
        return True
    known = {*some.spoiled, *target.kinds}
    return any(name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) for name in known)


def judged(some: Case, number: int, seed: int = 0) -> tuple[str, Finding | None]:
    """Run a case: ``"accepted"``, ``"refused"``, ``"its own error"`` (a hostile object's), ``"finding"`` and which."""
    target = targets()[some.target]
    given, rng = dict(some.arguments), Random(f"{seed}/{number}/check")

    def finding(what: str, error: BaseException | None = None) -> tuple[str, Finding]:
        where = _where(error)
        fields = ", ".join(f"{name}={shown(given[name])}" if name in given else f"no {name}" for name in some.spoiled)
        place = where or f"{some.target} {some.spoiled}"
        signature = f"{place}|{re.sub(r'[0-9]+|<.*?>|[(].*', '#', what)[:40]}"
        return "finding", Finding(number, some.target, fields, what, where, signature)

    try:
        with time_limit(LIMIT), warnings.catch_warnings():
            _strict()
            result = target.call(some.arguments)
    except UnsoundError as error:
        return finding(str(error), error)
    except (ValueError, TypeError) as error:
        if not names_it(error, some, target):
            return finding(f"the {type(error).__name__} names no parameter: {shown(str(error))}", error)
        if len(str(error)) > LONGEST or "\n" in str(error):
            return finding(f"the message is not a readable line ({len(str(error))} characters)", error)
        return "refused", None
    except HostileError:
        return "its own error", None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return finding(f"{type(error).__name__}: {shown(str(error))}", error)
    silent = [name for name, value in some.arguments.items() if not _allowed(target, name, value)]
    if silent:
        return finding(f"{silent[0]}={shown(some.arguments[silent[0]])} is accepted")
    try:
        with time_limit(LIMIT), warnings.catch_warnings():
            _strict()
            target.check(result, some.arguments, rng)
    except HostileError:
        return "its own error", None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return finding(f"accepted, then {type(error).__name__}: {shown(str(error))}", error)
    return "accepted", None


def _strict() -> None:
    warnings.simplefilter("ignore")
    for category in (RuntimeWarning, UserWarning):
        warnings.filterwarnings("error", category=category, module="gpurender")


def _allowed(target: Target, name: str, value: Any) -> bool:
    if name not in target.kinds:
        return False
    if name in target.defaults and value is target.defaults[name]:
        return True
    try:
        return target.kinds[name](value)
    except HostileError:  # whatever it is, it behaved where it was used
        return True
    except Exception:
        return False


def _where(error: BaseException | None) -> str:
    """The innermost line of the library in a traceback."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    ours = [f for f in frames if "/gpurender/" in f.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def minimal(found: Finding, seed: int, only: str | None = None) -> Finding:
    """The same finding with as few spoiled fields as show it."""
    for keep in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
        _, smaller = judged(case(seed, found.number, keep, only), found.number, seed)
        if smaller is not None and smaller.signature == found.signature:
            return smaller
    return found
