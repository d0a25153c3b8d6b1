"""What the commands that answer by HTTP share; the limits are tried on the data server, in tests/server."""

import errno
import socket

import pytest

from gpurender.util import web


def test_ports():
    assert [web.checked_port(port) for port in (0, 65_535)] == [0, 65_535]
    for port in (-1, 65_536):
        with pytest.raises(ValueError, match=rf"^port must be an integer in \[0, 65535\], got {port}$"):
            web.checked_port(port)


def test_a_missing_extra_is_said():
    error = web.missing("serve", ImportError("No module named 'uvicorn'"))
    assert isinstance(error, RuntimeError)
    assert str(error) == (
        "serve needs Starlette and uvicorn: pip install 'gpurender[serve]' (No module named 'uvicorn')"
    )


def test_addresses_that_cannot_be_listened_on(monkeypatch):
    pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra 'serve'")

    def create_server(address, **options):
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_server", create_server)
    with pytest.raises(OSError, match="Cannot assign requested address") as caught:
        web.run(None, "10.255.0.1", 0, lambda host, port: pytest.fail("is announced"))
    assert caught.value.errno == errno.EADDRNOTAVAIL
