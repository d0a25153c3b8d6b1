"""``gpurender preview``: what is handed on, and which files it writes."""

import pytest
import torch
from PIL import Image

import gpurender as gr
from gpurender import sheet
from gpurender.commands import cli
from gpurender.commands.gallery import cards, page

RECIPE = gr.VisualAtom(classes=3, instances=4, image_size=32, orbits=(1, 3), quantization=(5, 9))


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Calls of ``contact_sheet``; the folder is an empty one."""
    calls = []

    def drawn(renderer, *given, **more):
        calls.append((renderer.recipe, renderer.device, given, more))
        return Image.new("RGB", (20, 30))

    monkeypatch.setattr(sheet, "contact_sheet", drawn)
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_sheet_is_of_the_function_s_own_size(called, capsys):
    with open("tiny.json", "w") as file:
        file.write(RECIPE.to_json())
    assert cli.main(["preview", "tiny.json"]) == 0
    assert called == [(RECIPE, torch.device("cpu"), (None, 6), {"classes": None, "augment": None})]
    assert capsys.readouterr().out == f"tiny.png: 20 x 30, visualatom, fingerprint {RECIPE.fingerprint[:12]}\n"
    with Image.open("tiny.png") as shown:
        assert (shown.format, shown.size) == ("PNG", (20, 30))


def test_every_option_of_a_sheet_is_handed_on(called):
    words = ["--rows", "2", "--cols", "3", "--classes", "0,2", "--augment", "crop", "--device", "cpu"]
    assert cli.main(["preview", RECIPE.to_json(), *words]) == 0
    assert called == [(RECIPE, torch.device("cpu"), (2, 3), {"classes": "0,2", "augment": gr.augment.Crop()})]
    with Image.open("visualatom.png") as shown:  # the family's name, of a recipe that is given as text
        assert shown.size == (20, 30)


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.JPG", "JPEG"), ("a.webp", "WEBP"), ("a.tiff", "TIFF"), ("a.bmp", "BMP"), ("a.gif", "GIF"), ("a.b.png", "PNG")],
)
def test_the_suffix_decides_the_format(called, name, form):
    assert cli.main(["preview", RECIPE.to_json(), "-o", name]) == 0
    with Image.open(name) as shown:
        assert shown.format == form


@pytest.mark.parametrize("words", [[], ["onepfrac-1k", "--gallery", "g.html"]])
def test_either_a_sheet_or_a_gallery(called, capsys, words):
    assert cli.main(["preview", *words]) == 2
    assert "give either a RECIPE or --gallery FILE" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused_before_anything_is_drawn(called, monkeypatch, capsys):
    assert cli.main(["preview", RECIPE.to_json(), "-o", "none/a.png"]) == 2
    assert called == []
    monkeypatch.setattr(cards, "cards", None)
    assert cli.main(["preview", "--gallery", "none/g.html"]) == 2
    assert "none/g.html" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--rows", "--classes"])
def test_a_gallery_takes_no_option_of_a_sheet(called, capsys, option):
    assert cli.main(["preview", "--gallery", "g.html", option, "3"]) == 2
    assert f"{option} must be left out with --gallery" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "given"),
    [([], (6, None, "cpu")), (["--cols", "2", "--augment", "crop", "--device", "d"], (2, gr.augment.Crop(), "d"))],
)
def test_a_gallery_is_a_page_of_cards(called, monkeypatch, capsys, words, given):
    asked = []
    monkeypatch.setattr(cards, "cards", lambda *options: asked.append(options) or iter("abc"))
    monkeypatch.setattr(page, "page", lambda made: f"<ä{len(made)}>")
    assert cli.main(["preview", "--gallery", "g.html", *words]) == 0
    assert asked == [given]
    with open("g.html", "rb") as file:
        assert file.read() == "<ä3>".encode()
    assert capsys.readouterr().out == "g.html: 3 presets\n"
