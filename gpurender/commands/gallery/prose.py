"""Docstrings of families as HTML: what a dataset is, what of it is exact, what was chosen."""

import html
import inspect
import re

SECTION = re.compile(r"(Args|Attributes|Raises|Returns):\n")
VARIANT = re.compile(r"^ {4}(?:\w+, )*variant: (.*(?:\n {8}.*)*)", re.MULTILINE)  # an entry of the section Args
SPANS = (  # of escaped text
    (re.compile(r"``(.+?)``", re.DOTALL), r"<code>\1</code>"),
    (re.compile(r":\w+:`(.+?)`", re.DOTALL), r"<code>\1</code>"),
    (re.compile(r"\*\*(.+?)\*\*", re.DOTALL), r"<strong>\1</strong>"),
    (re.compile(r"\\([|*_])"), r"\1"),
)


def paragraphs(docstring: str) -> list[str]:
    """Return the paragraphs of a docstring outside of its sections (Args, Raises ...), as HTML."""
    blocks = [block for block in inspect.cleandoc(docstring).split("\n\n") if not SECTION.match(block)]
    return [_block(block) for block in blocks]


def variants(docstring: str) -> str | None:
    """Return what a docstring says of the argument ``variant``, as HTML; ``None`` if it does not name it."""
    found = VARIANT.search(inspect.cleandoc(docstring))
    return None if found is None else f"<p>{spans(found[1])}</p>"


def spans(text: str) -> str:
    """Return a text as HTML, with its code and bold words."""
    text = html.escape(text[:-1] if text.endswith("::") else text)  # a formula follows
    for pattern, replacement in SPANS:
        text = pattern.sub(replacement, text)
    return text


def _block(block: str) -> str:
    """Return a paragraph, a list or a formula as HTML."""
    if block.startswith((" ", ">>>")):
        return f"<pre>{html.escape(inspect.cleandoc(block))}</pre>"
    if block.startswith("- "):
        entries = re.split(r"\n- ", block.removeprefix("- "))
        return "<ul>" + "".join(f"<li>{spans(entry)}</li>" for entry in entries) + "</ul>"
    return f"<p>{spans(block)}</p>"
