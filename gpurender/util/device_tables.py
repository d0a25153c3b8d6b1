"""Tables on a device, made once for all users of the same parameters, and their lifetime.

The tables of a policy (normalisation, quantiles, distributions of operations) are a few KB each. They are kept because
copying a table to the device for every batch would wait for the device every time. At most ``KEPT`` tables per kind are
kept, because a search over policies may request any number; the least recently used table is dropped first.

A CUDA graph reads the tables by address, without requesting them. So the code that captures a graph collects the tables
handed out during the capture (:func:`in_use`) and keeps them with the graph.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

KEPT = 1024  # tables per kind: 32 MB for the largest kind, quantiles; a policy of 64 views may request 192 at once

Make = TypeVar("Make", bound=Callable[..., Any])


class _Collecting(threading.local):
    """The lists that record the tables handed out to this thread."""

    def __init__(self) -> None:
        self.lists: list[list[Any]] = []


_collecting = _Collecting()


@contextlib.contextmanager
def in_use() -> Iterator[list[Any]]:
    """Collect the tables that are handed out to this thread in the block: they live as long as the yielded list."""
    tables: list[Any] = []
    _collecting.lists.append(tables)
    try:
        yield tables
    finally:
        _collecting.lists.pop()


def on_device(make: Make) -> Make:
    """Cache the tables on a device that a function of hashable arguments returns; callers must only read them."""
    kept = functools.lru_cache(maxsize=KEPT)(make)

    @functools.wraps(make)
    def hand_out(*arguments: Any) -> Any:
        tables = kept(*arguments)
        for users in _collecting.lists:
            users.append(tables)
        return tables

    return hand_out  # type: ignore[return-value]
