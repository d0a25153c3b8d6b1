"""Fetching: transfers that are cut off go on, and wrong bytes never get the name of right ones."""

import hashlib
import http.server
import os
import re
import socket
import threading

import pytest

from gpurender.server import remote

CONTENT = os.urandom(300_000)
SIZE = len(CONTENT)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends CONTENT, a part of it per answer, as the server's ``plan`` says; notes what was asked."""

    def do_GET(self):
        begin = int(self.headers.get("Range", "bytes=0-").partition("=")[2].rstrip("-"))
        self.server.asked.append(begin)
        step = self.server.plan.pop(0) if self.server.plan else None
        if isinstance(step, int) and step >= 400:
            self.send_error(step, "Nothing here")
            return
        ranges = step != "no ranges"
        body = self.server.content[begin if ranges else 0 :]
        self.send_response(206 if begin and ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: 100_000 if step == "cut" else 0 if step == "nothing" else None])

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.asked, made.plan, made.content = [], [], CONTENT
        made.url = f"http://127.0.0.1:{made.server_address[1]}/experts/ant.safetensors"
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def get(server, path, sha=SHA, size=SIZE):
    return remote.fetched(server.url, path, sha, size)


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "deep" / "ant.safetensors"
    assert get(server, path) == path
    assert path.read_bytes() == CONTENT
    assert get(server, path) == path
    assert server.asked == [0]
    assert [entry.name for entry in path.parent.iterdir()] == ["ant.safetensors"]


def test_a_transfer_that_is_cut_off_goes_on_where_it_was(server, tmp_path):
    server.plan = ["cut", "cut"]
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [0, 100_000, 200_000]


def test_a_killed_client_goes_on_with_what_it_has(server, tmp_path):
    part = tmp_path / f"a.{SHA[:16]}.part"
    part.write_bytes(CONTENT[:123_456])
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [123_456]
    assert not part.exists()


def test_a_server_without_ranges_sends_all_of_it(server, tmp_path):
    (tmp_path / f"a.{SHA[:16]}.part").write_bytes(CONTENT[:1000])
    server.plan = ["no ranges"]
    assert get(server, tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_begun_again(server, tmp_path):
    (tmp_path / f"a.{SHA[:16]}.part").write_bytes(CONTENT + b"x")
    assert get(server, tmp_path / "a").read_bytes() == CONTENT
    assert server.asked == [0]


def test_after_five_attempts_that_bring_nothing_it_ends_and_keeps_what_it_has(server, tmp_path):
    server.plan = ["cut"] + ["nothing"] * 9
    with pytest.raises(OSError, match=r"ant\.safetensors was cut off at 100,000 of 300,000 bytes"):
        get(server, tmp_path / "a")
    assert server.asked == [0] + [100_000] * 5
    assert not (tmp_path / "a").exists()
    server.plan = []
    assert get(server, tmp_path / "a").read_bytes() == CONTENT


def test_wrong_bytes_are_thrown_away(server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(ValueError, match="is not the expert of the catalogue: its SHA-256 differs"):
        get(server, tmp_path / "a")
    assert not [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".gpurender-lock")]
    server.content = CONTENT
    assert get(server, tmp_path / "a").read_bytes() == CONTENT


def test_a_damaged_file_of_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "a").write_bytes(b"damaged")
    assert get(server, tmp_path / "a").read_bytes() == CONTENT


def test_more_bytes_than_announced_are_not_taken(server, tmp_path):
    small = CONTENT[:70_000]
    found = get(server, tmp_path / "a", hashlib.sha256(small).hexdigest(), len(small))
    assert found.read_bytes() == small


@pytest.mark.parametrize("code", [404, 429, 500])
def test_errors_of_the_server_are_said(server, tmp_path, code):
    server.plan = [code]
    with pytest.raises(OSError, match=f"ant.safetensors: the server answers {code} Nothing here$"):
        get(server, tmp_path / "a")


def test_a_server_that_does_not_answer_is_said(tmp_path):
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:9/x: no answer: "):
        remote.text("http://127.0.0.1:9/x")


@pytest.mark.parametrize("url", ["http://localhost:abc/x", "http://a b/x", "https://[::1/x"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match=f"^server: {re.escape(repr(url))} is no address: "):
        remote.text(url)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"220 mail.example ESMTP\r\n", "no answer in HTTP: 220 mail.example"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "was cut off: "),
    ],
)
def test_what_is_no_whole_answer_in_http_is_said(answer, said):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def one():
            with listening.accept()[0] as client:
                client.recv(1000)
                client.sendall(answer)

        threading.Thread(target=one, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        with pytest.raises(OSError, match=f"^{re.escape(url)}:? {said}"):
            remote.text(url)


def test_texts_have_a_limit(server, monkeypatch):
    monkeypatch.setattr(remote, "MAX_TEXT", len(CONTENT) - 1)
    with pytest.raises(ValueError, match="is longer than 299,999 bytes"):
        remote.text(server.url)
    monkeypatch.setattr(remote, "MAX_TEXT", len(CONTENT))
    assert remote.text(server.url) == CONTENT


def test_each_address_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path))
    found = {remote.cache_folder(f"http://{name}:8000") for name in ("a", "b")}
    assert len(found) == 2
    assert all(path.parent == tmp_path / "servers" for path in found)
    for address in ("ftp://a", "file:///etc"):
        with pytest.raises(ValueError, match="server must be a folder, or begin with http:// or https://, got '"):
            remote.cache_folder(address)
