"""Progress bars that only note what they are told."""

from typing import Any


class Bars:
    """Stands for ``progress``: the options of each bar that is made, and its steps."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.steps: list[int] = []

    def __call__(self, **options: Any) -> "Bars":
        self.made.append(options)
        return self

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def update(self, n: int = 1) -> None:
        """Note so many steps."""
        self.steps.append(n)
