"""Numbers and ranges in one text."""

import pytest

from gpurender.util.ranges import parse_ranges


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
