"""Numbers with their nouns."""

from gpurender.util.plural import counted


def test_a_noun_follows_its_number():
    assert [counted(number, "image") for number in (0, 1, 2, 1000)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,000 images",
    ]
    assert [counted(number, "class") for number in (1, 3)] == ["1 class", "3 classes"]
