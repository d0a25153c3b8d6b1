"""Selections of samples."""

import numpy as np
import pytest

import gpurender as gr
from gpurender.commands.image_folder.selection import Selection

PLAIN = gr.OnePFrac(classes=12, instances=5, points=50, image_size=16)
TAIL = gr.OnePFrac(classes=4, instances=6, points=50, image_size=16, class_prior=[6, 0, 1, 3])


def found(recipe, **options):
    selection = Selection(recipe, **options)
    everything = selection.samples(0, len(selection)).tolist()
    parts = [selection.samples(first, first + 3).tolist() for first in range(0, len(selection), 3)]
    assert [sample for part in parts for sample in part] == everything
    assert int(selection.counts.sum()) == len(everything)
    return everything


def expected(recipe, limit=None, per_class=None, classes=None):
    """The same by a list of all samples."""
    chosen = []
    for number, count in enumerate(recipe.class_counts().tolist()):
        first = int(recipe.class_counts()[:number].sum())
        if classes is None or number in classes:
            chosen += range(first, first + (count if per_class is None else min(count, per_class)))
    return chosen[:limit]


@pytest.mark.parametrize("recipe", [PLAIN, TAIL, gr.Mixture({PLAIN: 1, TAIL: 2})], ids=["plain", "tail", "mixture"])
@pytest.mark.parametrize("limit", [None, 1, 7, 10**9])
@pytest.mark.parametrize("per_class", [None, 1, 2, 10**9])
@pytest.mark.parametrize("classes", [None, [2], [0, 3], range(1, 4)])
def test_a_selection_is_the_first_samples_of_classes(recipe, limit, per_class, classes):
    options = {"limit": limit, "per_class": per_class, "classes": classes}
    assert found(recipe, **options) == expected(recipe, **options)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-11", range(12)),
        ("3", [3]),
        ("0-2,7", [0, 1, 2, 7]),
        ("7,0-2", [0, 1, 2, 7]),
        ("0-5, 3-7,4", range(8)),
        ("11-11", [11]),
        ("0003", [3]),
    ],
)
def test_a_text_of_classes(text, numbers):
    selection = Selection(PLAIN, classes=text)
    assert np.flatnonzero(selection.chosen).tolist() == list(numbers)
    assert found(PLAIN, classes=text) == expected(PLAIN, classes=numbers)


def test_integers_of_any_kind_are_classes():
    for classes in (3, np.int64(3), [3], (3, 3), np.array([3]), range(3, 4)):
        assert found(PLAIN, classes=classes) == [15, 16, 17, 18, 19]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("12", "'12'"), ("0-12", "'0-12'"), ("9-3", "'9-3'"), ("", "''"), ("0-", "'0-'"), ("-3", "'-3'"), ("a", "'a'"),
        ("0-9,", "''.* in '0-9,'"), ("0-2,9-3", "'9-3'.* in '0-2,9-3'"), ("1.5", "'1.5'"), ("0--3", "'0--3'"),
        ("0-99999999999", "'0-99999999999'"),
    ],
)  # fmt: skip
def test_a_wrong_text_of_classes_is_refused_by_name(text, word):
    with pytest.raises(ValueError, match=r"^classes must be numbers and ranges in \[0, 11\] such as 0-9,42, got "):
        Selection(PLAIN, classes=text)


@pytest.mark.parametrize("classes", [12, -1, [0, 12], 1.5, [True], {1}, [], np.array([0.5])])
def test_other_wrong_classes_are_refused_by_name(classes):
    with pytest.raises((TypeError, ValueError), match=r"^classes must be"):
        Selection(PLAIN, classes=classes)


def test_classes_without_an_image_are_refused_by_name():
    for classes in ("1", [1]):
        with pytest.raises(ValueError, match=r"^classes must have an image, got .*, which have none"):
            Selection(TAIL, classes=classes)


@pytest.mark.parametrize("name", ["limit", "per_class"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_wrong_numbers_are_refused_by_name(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must be an integer in \[1, "):
        Selection(PLAIN, **{name: value})
