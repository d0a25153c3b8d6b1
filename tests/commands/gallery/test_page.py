"""The page of all presets, as the command writes it: what it shows, what it loads, what it escapes, and its search."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.gallery.cards import CELL, Card
from gpurender.commands.gallery.page import SCRIPT, page
from gpurender.sheet import contact_sheet

VOID = {"meta", "input", "img", "link", "br", "hr", "base", "embed", "source", "track"}  # elements without an end


class Page(HTMLParser):
    """The elements of a page, and the text of each article; an element that is not closed in turn is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.articles = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes, self.article()))
        if tag == "article":
            self.articles[attributes["id"]] = ""
        if tag not in VOID:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.article() is not None:
            self.articles[self.article()] += data

    def article(self):
        return next((attributes["id"] for tag, attributes in self.open if tag == "article"), None)

    def all(self, name):
        return [(attributes, article) for tag, attributes, article in self.elements if tag == name]


def picture(attributes):
    """The image of an element img."""
    kind, data = attributes["src"].split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"]) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "out.html"
    assert cli.main(["preview", "--gallery", str(path), "--cols", "1"]) == 0
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown(text):
    return Page(text)


def test_every_preset_has_a_card_with_paper_sizes_and_variant(shown):
    assert list(shown.articles) == gr.presets()
    links = {article: attributes["href"] for attributes, article in shown.all("a")}
    for name, words in shown.articles.items():
        recipe = gr.recipe(name)
        assert f"{recipe.source.rpartition(', ')[0]}, {links[name]}" == recipe.source
        assert recipe.source in words
        images = "1 image" if recipe.instances == 1 else f"{recipe.instances:,} images"
        assert f"{recipe.classes:,} classes × {images}, {recipe.image_size} ×" in words
        assert f"Variant {recipe.variant}." in words
        assert recipe.fingerprint[:12] in words
        assert type(recipe).__doc__.split(".")[0].split("``")[0][:40] in words
        assert ("labels multi-hot" in words) == recipe.multi_hot
    assert "What the paper leaves open." in shown.articles["rcdb-1k"]
    assert "of every map is multiplied by 0.2" in shown.articles["ofdb-1k"]
    assert "classes=21000" in shown.articles["visualatom-21k"]


def test_every_card_has_pictures_of_its_preset(shown):
    found = {article: picture(attributes) for attributes, article in shown.all("img")}
    assert list(found) == gr.presets()
    for pixels in found.values():
        assert min(pixels.shape[:2]) >= CELL
        assert pixels.std() > 1
    expected = contact_sheet(gr.Renderer("visualatom-1k"), 1, 1, cell=CELL)
    assert np.array_equal(found["visualatom-1k"], np.asarray(expected))


def test_presets_that_need_a_search_show_their_first_classes(shown):
    searched = {name for name in gr.presets() if gr.recipe(name).needs_search()}
    assert {name for name, words in shown.articles.items() if "of the first 12 classes" in words} == searched
    assert "fractaldb-100k" in searched


def test_nothing_is_loaded(text, shown):
    for tag, attributes, _ in shown.elements:
        for name, value in attributes.items():
            if name == "src":
                assert tag == "img"
                assert value.startswith("data:")
            elif name == "href":
                assert tag == "a"
            elif name != "xmlns":
                assert "//" not in value
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "video", "audio"}
    for (style,) in (
        re.findall(r"<style>(.*?)</style>", text, re.DOTALL),
        re.findall(r"<script>(.*?)</script>", text, re.DOTALL),
    ):
        assert not re.search(r"url\(|@import|fetch|XMLHttp|https?:", style)
    policy = next(attributes["content"] for attributes, _ in shown.all("meta") if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert any(attributes.get("name") == "viewport" for attributes, _ in shown.all("meta"))


class Odd(gr.OnePFrac):
    """Images <script>alert(1)</script> & more.

    ``<img src=x>`` and <b>.
    """

    paper = 'A "title" <script>alert(2)</script>, https://example.org/?a="b"&c=<d>'


def test_text_is_escaped():
    Image.new("L", (8, 8)).save(file := io.BytesIO(), format="PNG")
    card = Card('<i>"x"&', Odd(classes=3, image_size=32), {"draw_type": "<u>'"}, file.getvalue(), 3)
    found = Page(page([card]))
    assert list(found.articles) == ['<i>"x"&']
    assert {tag for tag, _, article in found.elements if article is not None} == {
        "h2", "p", "div", "img", "details", "summary", "code", "a",
    }  # fmt: skip
    assert len(found.all("script")) == 1
    [words] = found.articles.values()
    for part in (Odd.paper, "Images <script>alert(1)</script> & more.", "<img src=x> and <b>.", 'draw_type="<u>\'"'):
        assert part in words
    [(attributes, _)] = found.all("a")
    assert attributes == {"href": 'https://example.org/?a="b"&c=<d>'}


NODE = """
const articles = %s.map(text => ({textContent: text, hidden: false}));
const input = {value: "", addEventListener: (_, work) => { input.work = work }}, status = {};
globalThis.document = {
  querySelectorAll: () => articles, getElementById: name => ({search: input, found: status})[name],
};
%s
const out = [status.textContent];
for (const value of %s) {
  input.value = value;
  input.work();
  out.push(articles.map(card => !card.hidden), status.textContent);
}
console.log(JSON.stringify(out));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_search_shows_cards_with_all_words():
    code = NODE % (
        json.dumps(["FractalDB, ACCV 2020", "Visual Atoms, CVPR 2023"]),
        SCRIPT,
        '["cvpr  ATOMS", "20", "x", " "]',
    )
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [
        "2 of 2 presets", [False, True], "1 of 2 presets", [True, True], "2 of 2 presets", [False, False],
        "0 of 2 presets", [True, True], "2 of 2 presets",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "give either a RECIPE or --gallery FILE"),
        (["onepfrac-1k", "--gallery", "g.html"], "give either a RECIPE or --gallery FILE"),
        (["--gallery", "g.html", "-o", "x.png"], "--output must be left out with --gallery"),
        (["--gallery", "g.html", "--rows", "2"], "--rows must be left out with --gallery"),
        (["--gallery", "g.html", "--classes", "1"], "--classes must be left out with --gallery"),
        (["--gallery", "g.html", "--cols", "0"], "cols must be an integer in [1, 64], got 0"),
        (["--gallery", "nowhere/g.html"], "there is no folder"),
    ],
)
def test_wrong_options_are_refused_in_a_line(tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["preview", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert text in line
    assert list(tmp_path.iterdir()) == []
