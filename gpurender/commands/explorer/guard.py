"""Guard: who may ask. On loopback the page of another site may not, elsewhere nobody without the token."""

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI application that lets requests through to another one.

    Without a token a request must name this machine as its host: a page of another site whose name was turned to
    127.0.0.1 (DNS rebinding) names that site. With a token it must bring it, in the address or in the cookie that the
    address with the token sets. Either way a request that a browser sends for a page must be for this page.

    Args:
        application: what is guarded.
        token: the token, or ``None``: whoever reaches this machine's loopback may ask.
    """

    def __init__(self, application: Any, token: str | None) -> None:
        self._application, self._token = application, token
        self._cookie = "gpurender-" + hashlib.sha256((token or "").encode()).hexdigest()[:8]  # one for each server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._application)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not let through."""
        headers = Headers(scope=scope)
        if self._token is None:
            if not is_loopback(name_of(headers.get("host", ""))):
                return _refused(421, "this server is asked as localhost or 127.0.0.1")
        elif not self._is_known(scope):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if not _equal(given, self._token):
                return _refused(403, "the address needs the token that gpurender explore printed")
            if scope["method"] != "GET":
                return _refused(403, "the token is taken from the cookie")
            answer = RedirectResponse("./", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="lax")
            return answer
        origin = headers.get("origin")
        if origin is not None and _place(origin) != headers.get("host"):
            return _refused(403, "this server answers its own page alone")
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
            return _refused(415, "the body must be application/json")  # a form of another site cannot send it
        return None

    def _is_known(self, scope: Scope) -> bool:
        given = HTTPConnection(scope).cookies.get(self._cookie)  # http.cookies drops all cookies for an odd one
        return given is not None and _equal(given, self._token or "")


def _equal(given: str, token: str) -> bool:
    """Return whether texts are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _place(origin: str) -> str | None:
    """Return the host and port of the header Origin; ``None`` if it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def name_of(host: str) -> str:
    """Return the name in the header Host, without the port; an IPv6 address without its brackets."""
    try:
        return "" if "@" in host else urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone: ``localhost`` or an address of its loopback."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)
