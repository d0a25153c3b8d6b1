"""The file of a result: environment first, whole or not there; another Python may state its own environment."""

import json
import sys

import pytest

from bench import newcomer, result_file
from gpurender.util.environment import environment


def without_date(found):
    return {name: value for name, value in found.items() if name != "date"}


def test_a_result_says_on_what_it_was_measured(tmp_path):
    path = tmp_path / "found.json"
    result_file.write(path, seconds=[1.5])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert list(found) == ["environment", "seconds"]
    assert without_date(found["environment"]) == without_date(environment())
    result_file.write(path, environment={"commit": "abc"}, seconds=[])
    assert json.loads(path.read_text()) == {"environment": {"commit": "abc"}, "seconds": []}
    with pytest.raises(TypeError):
        result_file.write(path, seconds={1})  # a set is no JSON
    assert json.loads(path.read_text())["seconds"] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["found.json"]


def test_a_newcomer_s_python_states_its_own_versions():
    assert without_date(newcomer.environment_of(sys.executable)) == without_date(environment())
