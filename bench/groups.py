"""Programs that die whole: each in a process group of its own, with a limit, its output in a file as it comes."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE = 3.0  # seconds from SIGTERM to SIGKILL
LOOK = 0.1  # seconds between two looks whether to stop


class Stop:
    """Whether this process was asked to end, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def catch(self) -> None:
        """Take SIGTERM, SIGINT and, unless it is ignored (nohup), SIGHUP as a wish to end soon, instead of ending."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.signal = number


def run_group(
    command: Sequence[str], *, log: Path, seconds: float, stop: Stop, folder: Path, variables: Mapping[str, str]
) -> int | None:
    """Run a program with all that it starts, and end them all.

    Args:
        command: the program and its arguments. Its standard input ends with this process (:func:`die_with_parent`).
        log: receives what it prints, behind what is there.
        seconds: then it is ended: SIGTERM to its group, SIGKILL three seconds later.
        stop: ends it sooner.
        folder: it works in.
        variables: of the environment, beside this process's.

    Returns:
        Its exit status, negative for a signal; ``None``: it was ended from here.
    """
    with (
        open(log, "ab") as output,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
            env=os.environ | dict(variables), start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            return _wait(process, time.monotonic() + seconds, stop)
        finally:
            end_group(process)


def _wait(process: subprocess.Popen[bytes], end: float, stop: Stop) -> int | None:
    while stop.signal is None and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, LOOK))
    return process.poll()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and whatever is left of the group, also when it has ended by itself."""
    if process.poll() is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    end = time.monotonic() + GRACE
    while _signal(process.pid, 0) and time.monotonic() < end:  # they give back a GPU when they are gone, not before
        time.sleep(LOOK / 10)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def die_with_parent() -> None:
    """End the group that this process leads when the process that holds the other end of its standard input is gone.

    That one may be killed without a chance to end anything; a GPU must not stay taken.
    """
    if os.getpgrp() != os.getpid():  # started by hand: the group is somebody else's
        return

    def guard() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=guard, daemon=True).start()
