"""Catalogues: what is written is read, and what is wrong is refused by name."""

import json

import numpy as np
import pytest

from gpurender.server import catalogue as catalogues
from tests.server.support import NAMES, file_server, recipe, recipe_server

pytest.importorskip("timm", reason="needs timm")
SEEN = {"digits": {"scores": [0.1, 0.2, 0.3], "gains": [0.0, -0.1, 0.1]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    recipe_server(root, seen=SEEN)
    return root


def test_a_catalogue_is_read_as_it_was_written(folder):
    found = catalogues.load(folder / "catalogue.json")
    assert [expert.name for expert in found.experts] == list(NAMES)
    assert [entry.recipe for entry in found.sources] == [recipe(0), recipe(1), recipe(2)]
    assert (found.task, found.kind, found.seen) == ("rotation", "recipes", SEEN)
    np.testing.assert_array_equal(found.vectors, np.eye(3))
    assert found.vectors.dtype == np.float64
    assert found.provenance == {"made": "by hand"}
    assert found.to_json() == (folder / "catalogue.json").read_text()
    assert found.experts[0].path == "experts/ant.safetensors"
    assert found.sources[1].path == "partitions/bee.json"


def test_files_have_no_recipe(tmp_path):
    file_server(tmp_path)
    found = catalogues.load(tmp_path / "catalogue.json")
    assert [(entry.recipe, entry.images, entry.bytes) for entry in found.sources] == [
        (None, 2, 30), (None, 1, 30), (None, 2, 90),
    ]  # fmt: skip


def change(values, path, value):
    """Set a value at a path of keys; ``...`` removes it."""
    for key in path[:-1]:
        values = values[key]
    if value is ...:
        del values[path[-1]]
    else:
        values[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["layout"], 2, "layout must be 1, got 2"),
        (["layout"], ..., "layout must be 1, got None"),
        (["task"], ..., "the entry 'task' is missing"),
        (["vectors"], ..., "the entry 'vectors' is missing"),
        (["provenance"], ..., "the entry 'provenance' is missing"),
        (["task"], "sing", "task must be one of 'rotation', 'classify', got 'sing'"),
        (["kind"], "songs", "kind must be one of 'recipes', 'files', got 'songs'"),
        (["experts"], [], "experts must be a list of 1 to 1024"),
        (["experts"], {}, "experts must be a list of 1 to 1024"),
        (["sources"], [], "sources must be a list of 3 to 65536"),
        (["experts", 0, "name"], "../../etc/passwd", "name must be small letters, digits and dashes"),
        (["experts", 0, "name"], "a" * 101, "name must be small letters, digits and dashes"),
        (["experts", 0, "name"], "ant\n", "name must be small letters, digits and dashes"),
        (["experts", 0, "name"], 3, "name must be small letters, digits and dashes, got 3"),
        (["experts", 0, "name"], "bee", "the first sources must be those of the experts"),
        (["experts", 0, "sha256"], "f" * 63, "sha256 must be 64 hex digits"),
        (["experts", 0, "sha256"], "F" * 64, "sha256 must be 64 hex digits"),
        (["experts", 0, "bytes"], 0, "bytes must be an integer in [1, 1099511627776], got 0"),
        (["sources", 2, "name"], "ant", "the first sources must be those of the experts"),
        (["sources", 0, "recipe"], "/etc/passwd", "recipe must be an object, got '/etc/passwd'"),
        (["sources", 0, "recipe", "classes"], 5, "the recipe of 'ant' has another fingerprint here"),
        (["sources", 0, "recipe", "classes"], -5, "classes must be"),
        (["vectors"], [[0, 0, 0]], "vectors must have 3 rows, got 1"),
        (["vectors", 1], [0, 0], "vectors must be 3 numbers"),
        (["vectors", 1, 0], float("inf"), "vectors must be a finite number"),
        (["seen"], [], "seen and provenance must be objects"),
        (["provenance"], 1, "seen and provenance must be objects"),
        (["seen", "digits", "gains"], ..., "'gains'"),
        (["seen", "digits", "scores"], [1], "seen['digits'].scores must be 3 numbers"),
        (["seen", "digits"], 3, "not subscriptable"),
    ],
)
def test_what_is_wrong_is_refused(folder, path, value, said):
    values = json.loads((folder / "catalogue.json").read_text())
    change(values, path, value)
    with pytest.raises(ValueError, match=r"^server: the catalogue 'here' is damaged: ") as caught:
        catalogues.from_json(json.dumps(values), "here")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_must_differ(folder):
    values = json.loads((folder / "catalogue.json").read_text())
    values["sources"].append(values["sources"][0])
    values["vectors"].append([0, 0, 0])
    with pytest.raises(ValueError, match="names must differ"):
        catalogues.from_json(json.dumps(values), "here")


def test_recipes_must_differ(folder):
    values = json.loads((folder / "catalogue.json").read_text())
    values["sources"].append({**values["sources"][0], "name": "dog"})
    values["vectors"].append([0, 0, 0])
    with pytest.raises(ValueError, match=r"^server: the catalogue 'here' is damaged: recipes must differ$"):
        catalogues.from_json(json.dumps(values), "here")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, b"\xff", '{"layout": 1}'])
def test_other_texts_are_no_catalogue(text):
    with pytest.raises(ValueError, match="the catalogue 'x' is damaged: "):
        catalogues.from_json(text, "x")


def test_a_folder_that_is_not_finished_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"has no catalogue.json: gpurender experts build has not finished there"):
        catalogues.load(tmp_path / "catalogue.json")
    (tmp_path / "catalogue.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        catalogues.load(tmp_path / "catalogue.json")
