"""The page of a gallery: one file of HTML that loads nothing."""

import base64
import html
import re
from collections.abc import Iterable

from gpurender.commands.gallery.cards import Card
from gpurender.commands.gallery.prose import paragraphs, spans, variants
from gpurender.util.plural import counted
from gpurender.util.version import __version__

PAPER = re.compile(r"(.*?),? *(https?://\S+)?")  # text, link

STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222 }
header { position: sticky; top: 0; background: #fff; padding: .5rem 0; border-bottom: 1px solid #ccc }
h1 { font-size: 1.2rem; margin: 0 0 .5rem }
input { box-sizing: border-box; width: 100%; padding: .5rem; font: inherit }
article { padding: 1rem 0; border-bottom: 1px solid #ccc; overflow-wrap: anywhere }
h2 { margin: 0; font-size: 1.1rem; font-family: ui-monospace, monospace }
p, ul { margin: .4rem 0 }
.pictures { overflow-x: auto }
.pictures img { display: block; max-width: none }
pre { overflow-x: auto }
code { background: #eee; padding: 0 .2em }
summary { cursor: pointer }
"""

SCRIPT = """
const cards = [...document.querySelectorAll("article")].map(card => [card, card.textContent.toLowerCase()]);
const search = document.getElementById("search"), found = document.getElementById("found");
function filter() {
  const words = search.value.toLowerCase().split(/\\s+/);
  let count = 0;
  for (const [card, text] of cards) {
    card.hidden = !words.every(word => text.includes(word));
    count += !card.hidden;
  }
  found.textContent = `${count} of ${cards.length} presets`;
}
search.addEventListener("input", filter);
filter();
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>gpurender: presets</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>Presets of gpurender {version}</h1>
<input id="search" type="search" placeholder="search: family, paper, words" aria-label="search">
<p id="found" role="status"></p>
</header>
<main>
<p>The pictures, not the datasets, are brightened.</p>
{cards}
</main>
<script>{script}</script>
</body>
</html>
"""

CARD = """<article id="{name}">
<h2>{name}</h2>
<p>{paper}</p>
<p>{sizes}</p>
<div class="pictures"><img src="data:image/png;base64,{png}" alt="images of {name}" loading="lazy"></div>
{remark}{first}
<details><summary>What is exact, what was chosen</summary>
<p>Variant <code>{variant}</code>.</p>
{rest}
<p>Parameters: {values}. Fingerprint: <code>{fingerprint}</code>.</p>
</details>
</article>"""


def page(cards: Iterable[Card]) -> str:
    """Return the page of some cards."""
    return PAGE.format(
        style=STYLE, script=SCRIPT, version=html.escape(__version__), cards="\n".join(_card(card) for card in cards)
    )


def _card(card: Card) -> str:
    first, *rest = paragraphs(type(card.recipe).__doc__ or "")
    return CARD.format(
        name=html.escape(card.name),
        paper=_paper(card.recipe.source),
        sizes=_sizes(card),
        png=base64.b64encode(card.png).decode(),
        remark=_remark(card),
        first=first,
        variant=html.escape(card.recipe.variant),
        rest="\n".join([_variants(card), *rest]),
        values=_values(card),
        fingerprint=card.recipe.fingerprint[:12],
    )


def _paper(paper: str) -> str:
    """Return the source of a family as HTML, with the link that ends it."""
    found = PAPER.fullmatch(paper)
    text, link = found.groups() if found else (paper, None)
    return html.escape(text) + (f', <a href="{html.escape(link)}">{html.escape(link)}</a>' if link else "")


def _sizes(card: Card) -> str:
    recipe = card.recipe
    colours = "grey" if recipe.channels == 1 else "colour"
    labels = ", labels multi-hot" if recipe.multi_hot else ""
    side = recipe.image_size
    images = counted(recipe.instances, "image")
    return f"{counted(recipe.classes, 'class')} × {images}, {side} × {side} pixels, {colours}{labels}"


def _remark(card: Card) -> str:
    """Return what the pictures leave out: the classes that only a search finds."""
    if card.shown == card.recipe.classes:
        return ""
    return f"<p>The pictures are of the first {card.shown} classes: a search finds the classes.</p>\n"


def _variants(card: Card) -> str:
    """Return what the variants of the family are: in its words, or in those of a family that it is a kind of."""
    texts = (variants(kind.__doc__ or "") for kind in type(card.recipe).__mro__)
    return next((text for text in texts if text is not None), "")  # python -OO has no docstrings


def _values(card: Card) -> str:
    """Return the parameters that a preset's name stands for."""
    if not card.values:
        return "the defaults of the family"
    values = ", ".join(f"{name}={value!r}" for name, value in card.values.items())
    return f"{spans(f'``{values}``')}, and the defaults of the family"
