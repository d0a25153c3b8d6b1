"""Numbers and ranges in one text, and whatever else chooses numbers."""

import numpy as np
import pytest
import torch

from gpurender.util.ranges import numbers, parse_ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", [0]),
        ("0-2,7", [0, 1, 2, 7]),
        ("7,0-2", [7, 0, 1, 2]),
        (" 3 - 4 , 9", [3, 4, 9]),
        ("1-3,2-4,1", [1, 2, 3, 4]),
        ("007-9", [7, 8, 9]),
        ("5-5", [5]),
    ],
)
def test_a_text_is_its_numbers_in_order_and_once(text, numbers):
    assert parse_ranges(text, 10, "classes") == numbers


@pytest.mark.parametrize(
    "text", ["", ",", "0,", "a", "-1", "1-", "2-1", "10", "9-10", "1.5", "0x1", "٣", "1 2", "9" * 99]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"^classes must be numbers and ranges in \[0, 9\] such as 0-9,42, got "):
        parse_ranges(text, 10, "classes")


def test_a_number_is_no_text():
    with pytest.raises(TypeError, match=r"^classes must be numbers and ranges .* got 3$"):
        parse_ranges(3, 10, "classes")


@pytest.mark.parametrize("value", ["3,1-2", [3, 1, 2], (3, 1, 2), np.array([3, 1, 2]), torch.tensor([3, 1, 2])])
def test_whatever_chooses_numbers_keeps_their_order(value):
    found = numbers(value, 10, "classes")
    assert (found.dtype, found.tolist()) == (np.int64, [3, 1, 2])


@pytest.mark.parametrize("value", [3, np.int64(3), range(3, 4), torch.tensor(3), "3"])
def test_one_number_is_a_list_of_one(value):
    assert numbers(value, 10, "classes").tolist() == [3]


@pytest.mark.parametrize("value", [{1, 2}, (n for n in (1, 2)), 1.5, None, b"1", {1: 2}])
def test_what_chooses_no_numbers_is_told_what_does(value):
    allowed = r"^classes must be a text such as '0-9,42', an integer or a list of integers, in \[0, 9\], got "
    with pytest.raises(TypeError, match=allowed):
        numbers(value, 10, "classes")


@pytest.mark.parametrize("value", [[], (), range(0), np.array([]), torch.tensor([])])
def test_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^classes must be one or more integers in \[0, 9\], got "):
        numbers(value, 10, "classes")


@pytest.mark.parametrize("value", [10, -1, [0, 10], [0, 1.5], [True], True, "10", np.array([0.5])])
def test_wrong_numbers_are_refused_by_name(value):
    with pytest.raises((TypeError, ValueError), match=r"^classes must be .* in \[0, 9\]"):
        numbers(value, 10, "classes")
