"""Numbers with their nouns."""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 image``, ``1,000 images``, ``2 classes``."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
