"""Texts of users: with a byte-order mark, in another encoding, not text at all."""

import codecs
import json
import os

import pytest

import gpurender as gr
from gpurender.benchmark.plot import _rows
from gpurender.util.texts import read_text

CATEGORY = "0.5,0,0,0.5,0,0,0.5\n0.5,0,0,0.5,0.5,0.5,0.5\n"


def category_of(path):
    return gr.FractalDB.from_csv(path.parent)


def weights_of(path):
    folder = path.parent / "categories"
    folder.mkdir()
    (folder / "00000.csv").write_text(CATEGORY)
    return gr.FractalDB.from_csv(folder, weights=path)


def atom_of(path):
    return gr.VisualAtom.from_csv(path.parent)


ATOM = (
    "Vertex,300\nPerlin_noise,1.5\nline_width,0.05\nCenter_rad,20\nLine_num,30\nOval_rate_x,1.25\nOval_rate_y,1.5\n"
    "nami 1,3\nnami 2,0\n"
)
RESULT = {
    "environment": {"cpu": "a CPU", "threads": 2, "gpu": None},
    "rows": [
        {"device": "cpu", "recipe": "r", "stage": "raster", "batch_size": 8, "image_size": 224, "dtype": "float16",
         "images_per_second": {"median": 2, "p5": 1, "p95": 3}}
    ],
}  # fmt: skip
READERS = {
    "recipe": ("recipe.json", gr.OnePFrac(seed=5).to_json(), gr.recipe),
    "category": ("00000.csv", CATEGORY, category_of),
    "weights": ("weights.csv", "1,1,1,1,1,0.5\n", weights_of),
    "atom": ("00000.csv", ATOM, atom_of),
    "result": ("result.json", json.dumps(RESULT), lambda path: [{**row, "sources": None} for row in _rows(path)]),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_changes_nothing(name, tmp_path):
    file, text, read = READERS[name]
    found = []
    for data in (text.encode(), codecs.BOM_UTF8 + text.encode()):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        (folder / file).write_bytes(data)
        found.append(read(folder / file))
    assert found[0] == found[1]


OTHERS = [
    (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "UTF-16"),
    (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "UTF-16"),
    (codecs.BOM_UTF32_LE + "é".encode("utf-32-le"), "UTF-32"),
    (codecs.BOM_UTF32_BE + "é".encode("utf-32-be"), "UTF-32"),
    ("ab é".encode("latin-1"), r"must be UTF-8, and byte 3 \(0xe9\) is not"),
]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("data", "says"), OTHERS)
def test_another_encoding_is_named_with_the_file(name, data, says, tmp_path):
    file, _, read = READERS[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        read(tmp_path / file)
    assert file in str(caught.value)
    assert "UTF-8" in str(caught.value)


def test_the_text_itself_is_untouched(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(codecs.BOM_UTF8 + "\ufeffé\r\n".encode())
    assert read_text(path) == read_text(os.fspath(path)) == "\ufeffé\r\n"  # the first mark only, and line ends kept
    path.write_bytes(b"")
    assert read_text(path) == ""


def test_the_json_of_a_recipe_may_begin_with_a_mark():
    recipe = gr.FractalDB(seed=3)
    for text in ("\ufeff" + recipe.to_json(), codecs.BOM_UTF8 + recipe.to_json().encode()):
        assert gr.Recipe.from_json(text) == recipe
    with pytest.raises(ValueError, match="not a recipe"):
        gr.Recipe.from_json("\ufeff\ufeff" + recipe.to_json())
