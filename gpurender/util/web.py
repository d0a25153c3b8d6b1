"""Web: HTTP by uvicorn, with limits on what slow and many clients can take. Needs the extra ``serve``."""

import asyncio
import errno
import json
import socket
from collections.abc import Callable, Sequence
from typing import Any

from gpurender.util import checks

CONNECTIONS = 512  # open at once; further ones are answered 503
SILENT_SECONDS = 15.0  # a connection without a request, or with one that does not end, is closed within twice as long,
# and so is one whose client reads nothing of an answer
KEEP_ALIVE = 5  # seconds
MAX_HEADER = 1 << 14  # bytes
BODY_SECONDS = 10.0  # for a body to arrive
GRACE = 5  # seconds that answers under way may take when the server ends


def missing(command: str, error: ImportError) -> RuntimeError:
    """Return the error of a command whose extra is not installed."""
    return RuntimeError(f"{command} needs Starlette and uvicorn: pip install 'gpurender[serve]' ({error})")


def checked_port(port: int) -> int:
    """Return a port: 1 to 65535, or 0 for a free one."""
    return checks.integer("port", port, 0, 65_535)


def run(
    application: Any,
    host: str,
    port: int,
    announce: Callable[[str, int], None],
    ending: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until a signal comes.

    Args:
        application: an ASGI application without a lifespan.
        host: address to listen on; ``"127.0.0.1"`` is this machine alone.
        port: 1 to 65535, or 0 for a free one.
        announce: called once the address is listened on, with the host as an address has it and the port.
        ending: called when the signal comes; answers under way then have ``GRACE`` seconds.

    Raises:
        OSError: the address cannot be listened on.
    """
    import uvicorn

    class Ending(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            ending()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(  # log_level: a line for each malformed request would let anybody fill the log
        application, http=_protocol(), lifespan="off", access_log=False, log_level="error",
        limit_concurrency=CONNECTIONS, timeout_keep_alive=KEEP_ALIVE, h11_max_incomplete_event_size=MAX_HEADER,
        timeout_graceful_shutdown=GRACE, server_header=False,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with _listening(host, port, family) as listening:
        announce(f"[{host}]" if family == socket.AF_INET6 else host, listening.getsockname()[1])
        Ending(config).run([listening])


def _listening(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # the system's words name no remedy
            raise OSError(f"port {port} of {host}: address already in use; --port 0 takes a free one") from None
        raise


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


async def json_body(request: Any, keys: Sequence[str], most: int) -> dict[str, Any]:
    """Return the JSON object of a request; nothing is unpickled.

    Args:
        request: Starlette's.
        keys: the entries that the object may have.
        most: bytes.

    Raises:
        HTTPException: it is too long, too slow or not JSON, or has unknown entries.
    """
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    try:
        data = await asyncio.wait_for(_bytes(request, most), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, "the body did not arrive in time") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client has gone") from None
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body must be JSON: {error}") from None
    if not isinstance(values, dict):
        raise HTTPException(400, "the body must be a JSON object")
    for name in values:
        if name not in keys:
            raise HTTPException(400, f"the body has no entry {checks.shown(name)}; it has {', '.join(keys)}")
    return values


async def _bytes(request: Any, most: int) -> bytes:
    """Return the body of a request, unless it is too long."""
    from starlette.exceptions import HTTPException

    data = bytearray()
    async for block in request.stream():
        data += block
        if len(data) > most:
            raise HTTPException(413, f"a body must have at most {most} bytes")
    return bytes(data)


async def json_error(request: Any, error: Exception) -> Any:
    """Answer Starlette's ``HTTPException`` as JSON."""
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse

    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
