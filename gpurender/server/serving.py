"""Serving: uvicorn on a server's folder, with limits on what slow and many clients can take."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from gpurender.util import checks

CONNECTIONS = 512  # open at once; further ones are answered 503
SILENT_SECONDS = 15.0  # a connection without a request, or with one that does not end, is closed within twice as long,
# and so is one whose client reads nothing of an answer
KEEP_ALIVE = 5  # seconds
MAX_HEADER = 1 << 14  # bytes


def serve(folder: Path, host: str, port: int, reports: bool) -> None:
    """Answer requests until a signal comes.

    Args:
        folder: of the server.
        host: address to listen on; ``"127.0.0.1"`` is this machine alone.
        port: 1 to 65535, or 0 for a free one, which is printed.
        reports: whether reports are taken.

    Raises:
        ValueError: the folder holds no server, or the port is not allowed.
        RuntimeError: the extra ``serve`` is missing.
        OSError: the address cannot be listened on.
    """
    checks.integer("port", port, 0, 65_535)
    try:
        import uvicorn

        from gpurender.server.application import application
    except ImportError as error:
        raise RuntimeError(f"serve needs Starlette and uvicorn: pip install 'gpurender[serve]' ({error})") from None
    made = application(folder, reports=reports)
    config = uvicorn.Config(  # log_level: a line for each malformed request would let anybody fill the log
        made, http=_protocol(), lifespan="off", access_log=False, log_level="error",
        limit_concurrency=CONNECTIONS, timeout_keep_alive=KEEP_ALIVE, h11_max_incomplete_event_size=MAX_HEADER,
        timeout_graceful_shutdown=5, server_header=False,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=CONNECTIONS) as listening:
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"http://{shown}:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run([listening])


def _protocol() -> Any:
    """Return uvicorn's HTTP protocol, which also closes silent and stuck connections: uvicorn itself waits for ever for
    a first request, for the end of a later one, and for a client that does not read its answer.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _silent = False
        _drained = 0  # how often the client has read enough for more to be written
        _unread = (0, 0)  # bytes that were not sent yet at the last look, and how often it had read then

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._look_again()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._drained += 1

        def _look_again(self) -> None:
            asyncio.get_running_loop().call_later(SILENT_SECONDS, self._look)

        def _look(self) -> None:
            unsent = self.transport.get_write_buffer_size()
            if not unsent and self.transport.is_closing():
                return
            if unsent and self._unread == (unsent, self._drained):
                self.transport.abort()  # close() would wait until the rest is read
                return
            silent = not unsent and (self.cycle is None or self.cycle.response_complete)
            if silent and self._silent:
                self.transport.close()
                return
            self._silent, self._unread = silent, (unsent, self._drained)
            self._look_again()

    return Impatient
