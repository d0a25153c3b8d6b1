"""Slots: of the requests for one picture on one page, only the newest is worth drawing."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.exceptions import HTTPException

from gpurender.runtime import threads
from gpurender.util import checks

SECONDS = 60.0  # for one answer, in which all kernels can be compiled; a search goes on where it stopped when the page
# asks again
LOOK = 0.2  # seconds between two looks at whether the server ends, or the client has gone
MOST_NAME = 64  # characters
AT_ONCE = 4  # answers being made; the newest of further slots wait
MOST_SLOTS = 64  # answers being made or waiting; further ones are refused

Made = TypeVar("Made")


async def _waits() -> bool:
    """Return that the client has not gone."""
    return False


class Slots:
    """Makes answers in threads: a newer request of a slot ends the older ones, also in the midst of their work."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._newest: dict[str, threading.Event] = {}
        self._ended = False
        self._pool = ThreadPoolExecutor(AT_ONCE, "gpurender-explore")

    def end(self) -> None:
        """Give up all answers: the server ends, and does not wait for what is being compiled, for example."""
        self._ended = True

    async def newest(
        self, slot: object, make: Callable[[], Made], gone: Callable[[], Awaitable[bool]] = _waits
    ) -> Made:
        """Return what ``make`` returns, made in a thread.

        Args:
            slot: name of the picture on the page that asks, such as ``"k3f9-A"``.
            make: makes the answer; its parallel loops stop when it is not wanted any more.
            gone: whether the client does not wait any more.

        Raises:
            HTTPException: 400: the client has gone; 409: a newer request of the slot has come; 503: it takes too
                long, or too many answers are waited for.
            TypeError, ValueError: the name is not allowed, or those of ``make``.
        """
        if not isinstance(slot, str) or not 1 <= len(slot) <= MOST_NAME:
            raise TypeError(f"slot must be a text of 1 to {MOST_NAME} characters, got {checks.shown(slot)}")
        if slot not in self._newest and len(self._newest) >= MOST_SLOTS:
            raise HTTPException(503, "too many pictures are asked for at once; ask again")
        with self._taken(slot) as unwanted:
            loop = asyncio.get_running_loop()
            late = loop.call_later(self._seconds, unwanted.set)
            try:
                work = loop.run_in_executor(self._pool, _made, make, unwanted)
                while not (await asyncio.wait({work}, timeout=LOOK))[0]:
                    if self._ended:
                        raise HTTPException(503, "the server ends")
                    if await gone():
                        raise HTTPException(400, "the client has gone")
                return work.result()
            except threads.StoppedError:
                if self._newest.get(slot) is unwanted:
                    raise HTTPException(503, f"this takes more than {self._seconds:g} s; ask again to go on") from None
                raise HTTPException(409, "a newer request has come") from None
            finally:
                late.cancel()
                unwanted.set()  # when the server ends, the thread ends soon

    @contextlib.contextmanager
    def _taken(self, slot: str) -> Iterator[threading.Event]:
        """Take a slot over, and leave it unless it has been taken over."""
        if (older := self._newest.get(slot)) is not None:
            older.set()
        self._newest[slot] = unwanted = threading.Event()
        try:
            yield unwanted
        finally:
            if self._newest.get(slot) is unwanted:
                del self._newest[slot]


def _made(make: Callable[[], Made], unwanted: threading.Event) -> Made:
    if unwanted.is_set():
        raise threads.StoppedError
    with threads.stopped_by(unwanted):
        return make()
