"""Controls are described by refusals: every family has one for each of its fields, with the bounds of its checks."""

import dataclasses

import pytest

import gpurender as gr
from gpurender.commands.explorer.parameters import PROBE, Parameter, described
from gpurender.commands.explorer.starts import STARTS
from gpurender.recipes.base import Recipe, from_data


def of(family, **values):
    """Parameters of a family by name, beside some values."""
    data = {**STARTS.get(family, {}), **values, "family": family}
    return {parameter.name: parameter for parameter in described(data)}


PLAIN = sorted(set(Recipe.families) - {"mixture", "schedule"})
OTHER_VARIANT = {"visualatom": {"axes", "interval", "noise"}}


@pytest.mark.parametrize("family", PLAIN)
def test_every_field_of_every_family_is_a_parameter(family):
    names = {field.name for field in dataclasses.fields(Recipe.families[family])}
    assert set(of(family)) == names - OTHER_VARIANT.get(family, set())


@pytest.mark.parametrize("family", PLAIN)
def test_every_parameter_says_what_is_allowed_and_what_it_is(family):
    for name, found in of(family).items():
        free = {"categories", "base"}  # tables
        assert (found.kind == "text") == (name in free), found
        assert found.help or name in ("edges",), name
        assert "``" not in found.help
        assert ":class:" not in found.help


@pytest.mark.parametrize("family", PLAIN)
def test_bounds_and_choices_are_those_that_the_family_takes(family):
    """Both bounds of a number are allowed by the check that names them; the next number beyond is refused by it."""
    data = {**STARTS.get(family, {}), "family": family}
    for found in of(family).values():
        if found.kind == "choice":
            for word in found.choices:
                said = refusal({**data, found.name: word})
                assert "must be one of" not in said
        if found.kind in ("integer", "integers"):
            for value in (found.low - 1, found.high + 1):
                given = value if found.kind == "integer" else [value, value]
                assert f"must be an integer in [{found.low}, {found.high}], got {value}" in refusal(
                    {**data, found.name: given}
                )
        if found.kind in ("real", "reals"):
            given = found.high * 1.5 + 1
            said = refusal({**data, found.name: given if found.kind == "real" else [given, given]})
            assert "must be a finite number in [" in said


def refusal(data):
    """What a family says of values, or nothing if it takes them."""
    try:
        from_data(data)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def test_kinds():
    found = of("visualatom")
    assert found["orbits"] == Parameter("orbits", "integers", 1, 2048, help="K, lines around the nucleus, 1 to 2048.")
    assert dataclasses.replace(found["amplitudes"], help="") == Parameter("amplitudes", "reals", -4.0, 4.0)
    assert dataclasses.replace(found["seed"], help="") == Parameter("seed", "integer", 0, 2**64 - 1)
    assert dataclasses.replace(found["variant"], help="") == Parameter(
        "variant", "choice", choices=("released", "paper")
    )
    assert dataclasses.replace(found["perturb"], help="") == Parameter("perturb", "real", 1e-4, 0.5, off=True)
    assert dataclasses.replace(of("onepfrac")["redraw"], help="") == Parameter("redraw", "boolean")
    weights = of("fractaldb")["weights"]
    assert (weights.kind, weights.choices, weights.more, weights.off) == (
        "choice",
        ("small", "base", "large"),
        True,
        False,
    )
    assert not of("fractaldb")["draw_type"].more
    picture = of("singleimage")
    assert (picture["image"].kind, picture["edges"].choices, picture["edges"].off) == ("picture", ("canny",), True)
    assert not of("fractaldb")["fill_rate"].off  # None stands for 0.2


def test_the_family_s_own_parameters_come_first():
    names = list(of("onepfrac"))
    assert names[:3] == ["sigma", "maps", "base"]
    assert names[-7:] == ["classes", "instances", "image_size", "seed", "variant", "class_prior", "label_noise"]


def test_what_is_allowed_depends_on_the_other_values():
    assert of("onepfrac")["sigma"].high == 6.0
    assert of("onepfrac", maps=4)["sigma"].high == 12.0
    assert {"sigma", "maps"}.isdisjoint(of("onepfrac", base=[[0.5, 0, 0, 0.5, 0, 0]]))
    paper = of("visualatom", variant="paper")
    assert OTHER_VARIANT["visualatom"] <= set(paper)
    assert {"radius", "oval", "line_width"}.isdisjoint(paper)
    assert paper["noise"].choices == ("smooth", "independent")


def test_mixtures_and_schedules():
    assert {name: found.kind for name, found in of("mixture").items()} == {
        "recipes": "text", "weights": "text", "labels": "choice",
    }  # fmt: skip
    assert {name: found.kind for name, found in of("schedule").items()} == {"recipe": "text", "knots": "text"}


def test_no_file_is_looked_for(monkeypatch):
    """The value that every parameter refuses must not be taken for the path of a picture."""
    monkeypatch.setattr("PIL.Image.open", lambda source: pytest.fail(f"{source} is opened"))
    with pytest.raises(ValueError, match=r"^image must be a path, or a uint8 array"):
        gr.SingleImage(PROBE)
