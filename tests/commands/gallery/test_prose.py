"""Docstrings as HTML."""

import gpurender as gr
from gpurender.commands.gallery.prose import paragraphs, spans, variants

DOCSTRING = """What it is: <b> & ``code``.

    A list of :class:`gr.Things`, \\|det\\|:

    - one
      goes on
    - two

    A formula::

        x < y

    Args:
        seed: not shown.
        variant, other: ``"a"``: this
            and that; ``"b"``: <those>.
        last: not shown.

    **Chosen.** The end.
    """


def test_paragraphs_lists_and_formulas_without_arguments():
    assert paragraphs(DOCSTRING) == [
        "<p>What it is: &lt;b&gt; &amp; <code>code</code>.</p>",
        "<p>A list of <code>gr.Things</code>, |det|:</p>",
        "<ul><li>one\n  goes on</li><li>two</li></ul>",
        "<p>A formula:</p>",
        "<pre>x &lt; y</pre>",
        "<p><strong>Chosen.</strong> The end.</p>",
    ]


def test_the_entry_of_the_variant():
    assert variants("No arguments.") is None
    assert variants(gr.OFDB.__doc__).startswith("<p><code>&quot;released&quot;</code>: a of every map is multiplied by")
    found = variants(DOCSTRING.replace("variant, other", "other, variant"))
    assert " ".join(found.split()) == (
        "<p><code>&quot;a&quot;</code>: this and that; <code>&quot;b&quot;</code>: &lt;those&gt;.</p>"
    )


def test_markup_is_made_of_escaped_text():
    assert spans("``<i>`` **<b>**") == "<code>&lt;i&gt;</code> <strong>&lt;b&gt;</strong>"
