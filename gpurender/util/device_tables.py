"""Tables on a device that are made once for whoever has the same parameters, and how long they stay.

The tables of a policy (normalisation, quantiles, laws of operations) are a few KB each. They are kept because a copy to
the device for every batch would wait for it every time, and at most ``KEPT`` of a kind are, as a search over policies
may ask for any number: the one that was not asked for longest goes first.

A CUDA graph reads them by address, without asking. So whoever captures one collects what is handed out meanwhile
(:func:`in_use`) and keeps it with the graph.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

KEPT = 1024  # of a kind: 32 MB of the largest, quantiles; the 64 views of a policy of views may ask for 192 at once

Make = TypeVar("Make", bound=Callable[..., Any])


class _Collecting(threading.local):
    """The lists that this thread's tables are written down in."""

    def __init__(self) -> None:
        self.lists: list[list[Any]] = []


_collecting = _Collecting()


@contextlib.contextmanager
def in_use() -> Iterator[list[Any]]:
    """Collect the tables that this thread is handed meanwhile: they live as long as the list."""
    tables: list[Any] = []
    _collecting.lists.append(tables)
    try:
        yield tables
    finally:
        _collecting.lists.pop()


def on_device(make: Make) -> Make:
    """Keep what a function of hashable arguments returns, tables on a device, to be read only."""
    kept = functools.lru_cache(maxsize=KEPT)(make)

    @functools.wraps(make)
    def hand_out(*arguments: Any) -> Any:
        tables = kept(*arguments)
        for users in _collecting.lists:
            users.append(tables)
        return tables

    return hand_out  # type: ignore[return-value]
