"""Serving: the page of ``gpurender explore`` on an address that is printed, and opened where there is a screen."""

import os
import secrets
import socket
import sys
import threading
import webbrowser
from typing import Any

from gpurender.util import web

MOST_TEXT = 1_000_000  # characters: the page sends its recipe with every request, and has it in its address
ANYWHERE = ("0.0.0.0", "[::]", "::")


def serve(recipe: str | None, host: str, port: int, browser: bool) -> None:
    """Answer the page until a signal comes.

    Args:
        recipe: what the page opens with: a preset's name or a JSON file; ``None``: a preset.
        host: address to listen on. Any but this machine's loopback needs the token in the address that is printed.
        port: 1 to 65535, or 0 for a free one.
        browser: whether a browser is opened, if this session has a screen.

    Raises:
        ValueError: the recipe or the port is not allowed.
        RuntimeError: the extra ``serve`` is missing.
        OSError: the address cannot be listened on.
    """
    web.checked_port(port)
    try:
        import uvicorn  # noqa: F401

        from gpurender.commands.explorer.application import Page, application
        from gpurender.commands.explorer.guard import is_loopback
    except ImportError as error:
        raise web.missing("explore", error) from None
    token = None if is_loopback(host) else secrets.token_urlsafe(32)
    page = Page() if recipe is None else Page(_asked(recipe))

    def announce(shown: str, port: int) -> None:
        name = socket.gethostname() if shown in ANYWHERE else shown
        address = f"http://{name}:{port}/" + (f"?token={token}" if token else "")
        print(address, flush=True)
        if hint := tunnel(os.environ, shown, port):
            print(hint, file=sys.stderr, flush=True)
        threading.Thread(target=page.warm_up, name="gpurender-warm-up", daemon=True).start()
        if browser and has_screen(os.environ, sys.platform):  # in a thread: some browsers come back when they end
            threading.Thread(target=webbrowser.open, args=(address,), name="gpurender-browser", daemon=True).start()

    web.run(application(page, token), host, port, announce, page.end)


def _asked(recipe: str) -> Any:
    """Return a preset's name or a JSON file in the page's words."""
    from gpurender.commands.explorer.asked import Asked, settings_of
    from gpurender.recipes.base import presets
    from gpurender.recipes.base import recipe as as_recipe

    if recipe in presets():
        return Asked.of(recipe, {})
    found = as_recipe(recipe)
    settings = settings_of(found)
    if (size := sum(map(len, settings.values()))) > MOST_TEXT:
        raise ValueError(f"recipe must have at most {MOST_TEXT} characters of JSON for this page, got {size}")
    return Asked.of(found.family, settings)


def tunnel(environment: Any, host: str, port: int) -> str:
    """Return how to reach the page from another machine, in a session of SSH; else an empty text."""
    if "SSH_CONNECTION" not in environment or host in ANYWHERE:
        return ""
    return f"on your own machine: ssh -N -L {port}:{host}:{port} {socket.gethostname()}, then open the address there"


def has_screen(environment: Any, platform: str) -> bool:
    """Return whether a browser would have a window: without one a browser of text would take the terminal."""
    return platform == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
