"""Sphinx's settings: ``sphinx-build -c docs . build/docs``, from the root of a checkout.

The source folder is the root, not this one: pages link to each other by relative paths, which lead to the same pages on
a forge, and some of these pages are beside the code that they describe.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

COLON = "\N{RATIO}"  # in place of a colon while napoleon reads
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the reference is that of this checkout

project = "gpurender"
author = "the authors of gpurender"
copyright = author  # Sphinx's name
VERSION = (ROOT / "gpurender/util/version.py").read_text(encoding="utf-8")
release = re.search(r'^__version__ = "(.+)"$', VERSION, re.MULTILINE).group(1)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = [
    "docs/**.md", "bench/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md",
    "gpurender/kernels/README.md", "README.md", "trials/README.md",
]  # fmt: skip
exclude_patterns = [".*", "build"]  # an environment beside the sources need not be searched
root_doc = "docs/index"

myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_display_short_literal_types = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88  # longer ones have a line for each argument

nitpicky = True  # a reference to a public name must lead somewhere; these do not
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|np|numpy|PIL|Image|collections|os|pathlib|Path|random|lightning|accelerate|transformers)\b.*"),
    (r"py:.*", r"(Recipe|Policy)Like|[A-Za-z]+T_co"),  # what is taken for a recipe, a policy; variables of types
    (r"py:.*", r"gpurender\.[a-z_]+\.[a-z_]+.*"),  # inside, named for readers of the code
]

html_theme = "furo"
html_title = f"gpurender {release}"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {"navigation_with_keys": True}


def setup(app: Any) -> None:
    """Let the folder of the pages begin with the first page, which is in ``docs/``."""
    app.connect("builder-inited", _one_signature)
    app.connect("build-finished", _begin)
    app.connect("autodoc-process-docstring", _hide, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-docstring", _show, priority=600)


def _one_signature(app: Any) -> None:
    """Show the signature of the loader itself, not the three that type checkers read."""
    loader = ModuleAnalyzer.for_module("gpurender.loading.data_loader")
    loader.analyze()
    loader.overloads.clear()


def _hide(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking the words before a colon for the type of a property."""
    if what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(":", COLON)


def _show(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def _begin(app: Any, failed: Exception | None) -> None:
    if failed is None and app.builder.name == "html":
        page = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">'
        (Path(app.outdir) / "index.html").write_text(f"{page}<title>gpurender</title>\n", encoding="utf-8")
