"""The documentation is built by Sphinx, with warnings as errors, and has every public name."""

import importlib
import os
import re
import subprocess
import sys
import zlib

import pytest

import gpurender as gr
from tests.support import ROOT

ROOMS = ("augment", "losses", "replay", "search", "server", "tasks", "training")
PAGES = sorted(path.relative_to(ROOT).with_suffix("") for path in ROOT.glob("docs/**/*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the pages."""
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"needs {package}, of the extra 'docs'")
    for package in ("timm", "accelerate", "lightning", "transformers"):  # whose adapters the reference describes
        pytest.importorskip(package, reason=f"needs {package}, of the extra 'test'")
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-c", "docs", "-d", folder / "trees"]
    done = subprocess.run(
        [sys.executable, *words, ".", folder / "html"], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def described(site):
    """Names in the index that other sites read: four lines, and the entries, compressed."""
    entries = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    return {line.split(" ", 1)[0] for line in entries.splitlines() if " py:" in line}


def test_every_page_of_the_folder_is_there(site):
    assert len(PAGES) > 25
    assert {str(page) for page in PAGES if not (site / page).with_suffix(".html").exists()} == set()
    assert "url=docs/index.html" in (site / "index.html").read_text()
    assert "<title>" in (site / "docs/index.html").read_text()


def test_pages_of_the_repository_lead_to_each_other(site):
    """By the relative links that a forge follows."""
    page = (site / "docs/performance.html").read_text()
    assert 'href="../bench/README.html#the-first-run-on-a-gpu"' in page
    assert 'href="docs/training.html"' in (site / "README.html").read_text()


def test_every_public_name_is_described(described):
    top = {f"gpurender.{name}" for name in gr.__all__ if name not in ROOMS}
    rooms = {room: importlib.import_module(f"gpurender.{room}") for room in ROOMS}
    inside = {
        f"gpurender.{room}.{name}"
        for room, module in rooms.items()
        for name in module.__all__
        if getattr(module, name) is not getattr(gr, name, None)  # described as the other
    }
    assert top | inside <= described, sorted((top | inside) - described)


def test_arguments_of_a_page_are_those_of_its_docstring(site):
    """Sections are read as sections, so that none is shown as text."""
    for page in (site / "docs/reference").glob("*.html"):
        assert not re.search(r"<p>(Args|Raises|Returns|Attributes):", page.read_text()), page.name
