"""Serving: a server's folder by HTTP."""

from pathlib import Path

from gpurender.util import web


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
    web.checked_port(port)
    try:
        import uvicorn  # noqa: F401

        from gpurender.server.application import application
    except ImportError as error:
        raise web.missing("serve", error) from None
    web.run(application(folder, reports=reports), host, port, lambda shown, p: print(f"http://{shown}:{p}", flush=True))
