"""Progress bars of whatever may take more than a few seconds."""

from typing import Any


def progress(**options: Any) -> Any:
    """A tqdm bar on standard error that appears after two seconds, and only on a terminal."""
    from tqdm import tqdm

    return tqdm(delay=2, disable=None, **options)
