"""Malformed input, shortened: ``python -m trials.fuzz`` runs a hundred thousand cases of the same kinds."""

import itertools
import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpurender as gr
from trials.fuzz import cases, targets
from trials.fuzz.__main__ import warm_up
from trials.fuzz.kinds import whole
from trials.fuzz.targets import Target, check_csv, check_json, check_state, loaders, scratch, texts
from trials.fuzz.values import HostileError, encoded, hostile, spoiled_text

CASES = 3000


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Kernels are compiled before a case is timed."""
    warm_up()


def test_every_target_is_refused_by_name_or_sound():
    """What is accepted is of the documented kind and holds together; what is refused is so by a parameter's name."""
    outcomes, findings = set(), []
    for number in range(CASES):
        outcome, found = cases.judged(cases.case(7, number), number, 7)
        outcomes.add(outcome)
        if found is not None:
            findings.append(f"{found.target} [{number}] {found.case}: {found.what} {found.where}")
    assert not findings, "\n".join(findings)
    assert {"accepted", "refused"} <= outcomes


@pytest.mark.parametrize("name", list(targets.targets()))
def test_valid_arguments_are_accepted(name):
    """Unspoiled, every start is taken, by the kinds and by the library, and stands all checks."""
    target = targets.targets()[name]
    for start in target.starts:
        case = cases.Case(name, dict(start), ())
        assert cases.judged(case, 0) == ("accepted", None)


def test_a_case_is_the_same_in_every_process():
    one, other = (cases.case(1, 5) for _ in range(2))
    assert (one.target, one.spoiled) == (other.target, other.spoiled)
    assert cases.shown(one.arguments) == cases.shown(other.arguments)


# ------------------------------------------------------------------------------------------- would it find anything?


def raising(error):
    def call(arguments):
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (raising(KeyError("x")), "KeyError"),
        (raising(MemoryError()), "MemoryError"),
        (raising(ValueError("something is wrong")), "names no parameter"),
        (raising(ValueError("size must be\nan integer")), "not a readable line"),
        (raising(ValueError("size" + "!" * 2000)), "not a readable line"),
        (lambda arguments: arguments, "is accepted"),
        (lambda arguments: sum(1 for _ in itertools.count()), "more than"),
    ],
)
def test_what_must_not_be_is_found(monkeypatch, call, what):
    target = Target(({"size": 3},), {"size": whole(1, 5)}, call)
    monkeypatch.setattr(cases, "targets", lambda: {"thing": target})
    monkeypatch.setattr(cases, "LIMIT", 0.2)
    outcome, found = cases.judged(cases.Case("thing", {"size": 9}, ("size",)), 0)
    assert outcome == "finding"
    assert what in found.what


def test_a_hostile_objects_own_error_is_its_own(monkeypatch):
    target = Target(({"size": 3},), {}, raising(HostileError()))
    monkeypatch.setattr(cases, "targets", lambda: {"thing": target})
    assert cases.judged(cases.Case("thing", {"size": hostile()}, ("size",)), 0) == ("its own error", None)


@pytest.mark.parametrize(
    "given",
    [
        {"sigma": float("nan")},
        {"classes": True},
        {"points": -1},
        {"fill_rate": 1.5},
        {"delta": "0.1"},
        {"base": [[0.5] * 5]},
        {"draw_type": "patch"},
        {"pixels": 1},
    ],
)
def test_what_is_not_allowed_would_not_be_accepted_silently(monkeypatch, given):
    """The kinds, without the library: a recipe that took anything would be a finding each time."""
    target = targets.targets()["onepfrac"]
    lenient = Target(target.starts, target.kinds, lambda arguments: None, defaults=target.defaults)
    monkeypatch.setattr(cases, "targets", lambda: {"onepfrac": lenient})
    _, found = cases.judged(cases.Case("onepfrac", {**target.starts[0], **given}, tuple(given)), 0)
    assert "is accepted" in found.what


# --------------------------------------------------------------------------------------------------------- readers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({name for text in texts("json") for name in json.loads(text)})
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(start=st.sampled_from(texts("json")), changes=st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON))
def test_any_json_is_a_recipe_or_refused(start, changes):
    check_json(json.dumps({**json.loads(start), **changes}), Random(0))


@QUICK
@given(start=st.sampled_from(texts("json")), seed=st.integers(0, 2**32))
def test_any_text_is_a_recipe_or_refused(start, seed):
    rng = Random(seed)
    check_json(encoded(rng, spoiled_text(rng, start.decode())), rng)


@QUICK
@given(data=st.binary(max_size=30))
def test_bytes_are_refused(data):
    assert check_json(data, Random(0)) == "refused"


CELL = st.floats().map(repr) | st.integers().map(str) | st.text(max_size=4)
TABLES = st.lists(st.lists(CELL, min_size=5, max_size=8).map(",".join), max_size=3)


@QUICK
@given(rows=TABLES, end=st.sampled_from(("\n", "\r\n", "\r", "\u2028", "\x00")))
def test_any_table_is_a_category_or_refused(rows, end):
    check_csv(scratch(), end.join(rows).encode("utf-8", "surrogatepass"), Random(0))


@QUICK
@given(start=st.sampled_from(texts("csv")), seed=st.integers(0, 2**32))
def test_a_spoiled_table_is_a_category_or_refused(start, seed):
    rng = Random(seed)
    check_csv(scratch(), encoded(rng, spoiled_text(rng, start.decode())), rng)


@QUICK
@given(
    which=st.sampled_from(range(len(loaders()))), changes=st.dictionaries(st.text(), JSON, max_size=3), data=st.data()
)
def test_any_state_is_a_place_or_refused(which, changes, data):
    loader = loaders()[which]
    state = {**loader.state_dict(), **changes}
    for name in data.draw(st.lists(st.sampled_from(sorted(loader.state_dict())), max_size=2)):
        state[name] = data.draw(JSON)
    check_state(loader, state)


def test_a_valid_text_of_each_kind_is_accepted():
    assert {check_json(text, Random(0)) for text in texts("json")} == {"accepted"}
    assert {check_csv(scratch(), text, Random(0)) for text in texts("csv")} == {"accepted"}
    for loader in loaders():
        assert check_state(loader, loader.state_dict()) == "accepted"
    assert isinstance(gr.Recipe.from_json(texts("json")[0]), gr.Mixture)
