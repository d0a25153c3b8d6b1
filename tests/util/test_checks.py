"""Checks: the word that was meant; paths."""

from pathlib import Path

import pytest

import gpurender as gr
from gpurender.util import checks

OPTIONS = ("batch_size", "image_size", "shuffle", "drop_last", "augment", "prefetch_factor")
ALIKE = [
    ("batchsize", "batch_size"),
    ("batchSize", "batch_size"),
    ("Batch-Size", "batch_size"),
    ("batch", "batch_size"),
    ("img_size", "image_size"),
    ("suffle", "shuffle"),
    ("prefetch", "prefetch_factor"),
    ("augmnt", "augment"),
]


@pytest.mark.parametrize(("wrong", "meant"), ALIKE)
def test_the_word_that_was_meant(wrong, meant):
    assert checks.did_you_mean(wrong, OPTIONS) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize("wrong", ["", "x", "bs", "epochs", "lr", "_", "batch_size" * 100])
def test_nothing_is_suggested_for_other_words(wrong):
    assert checks.did_you_mean(wrong, OPTIONS) == ""
    assert checks.did_you_mean(wrong, ()) == ""


def test_the_first_of_equally_like_words_is_suggested():
    models = ("vit_large_patch16_224", "vit_tiny_patch16_224", "vit_tiny_r_s16_p8_224", "vit_small_patch16_224")
    assert checks.did_you_mean("vit_tinny", models) == "; did you mean 'vit_tiny_patch16_224'?"
    assert checks.did_you_mean("vit_tinny", models[::-1]) == "; did you mean 'vit_tiny_r_s16_p8_224'?"


def test_a_choice_suggests():
    with pytest.raises(ValueError, match=r"^mode must be one of 'pair', 'batch', got 'pairs'; did you mean 'pair'\?$"):
        checks.choice("mode", "pairs", ("pair", "batch"))
    with pytest.raises(ValueError, match=r"^mode must be one of 'pair', 'batch', got 'none'$"):
        checks.choice("mode", "none", ("pair", "batch"))
    with pytest.raises(TypeError, match=r"^mode must be one of 'pair', 'batch', got 7$"):
        checks.choice("mode", 7, ("pair", "batch"))


@pytest.mark.parametrize("value", ["a/b", Path("a/b")])
def test_a_path_is_a_text_or_a_path_object(value):
    assert checks.path("folder", value) == Path("a/b")


class OfBytes:
    def __fspath__(self):
        return b"p"


@pytest.mark.parametrize("value", [5, None, b"p", Path, OfBytes(), ["p"]])
def test_anything_else_is_no_path(value):
    with pytest.raises(TypeError, match=r"^folder must be a path, got "):
        checks.path("folder", value)


@pytest.mark.parametrize("value", ["", "a\0b"])
def test_a_path_is_neither_empty_nor_cut(value):
    with pytest.raises(ValueError, match=r"^folder must be a path, neither empty nor with a null character, got '"):
        checks.path("folder", value)


def test_a_path_is_shown_in_full_unless_an_error_would_not_be_one_readable_line():
    assert checks.shown_path("/" + "a" * 497) == repr("/" + "a" * 497)
    assert checks.shown_path("/" + "a" * 498) == "'/" + "a" * 75 + "..."
    with pytest.raises(ValueError, match=r"^recipe '(onepfrac-1k){6}") as caught:
        gr.recipe("onepfrac-1k" * 80)
    names = ", ".join(gr.presets())
    assert len(str(caught.value)) - len(names) < 170
