"""The command: its address, its token, its end, and what it refuses."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gpurender as gr
from gpurender.commands import cli
from gpurender.commands.explorer import serving
from gpurender.commands.explorer.asked import Asked
from gpurender.util import web

pytest.importorskip("starlette", reason="needs starlette, of the extra 'serve'")
pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra 'serve'")
PATIENCE = 300  # seconds: a machine may be busy, and kernels compile
SMALL = gr.RCDB(classes=2, instances=2, image_size=32, polygons=(2, 3))


class Running:
    """The command in a process."""

    def __init__(self, *words, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpurender", "explore", *map(str, words), "--no-browser"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
            env={**os.environ, **environment},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # nohup ignores it
        )  # fmt: skip
        self.address = self.process.stdout.readline().strip()
        found = re.fullmatch(r"http://([^:/]+|\[.*\]):(\d+)/(?:\?token=(.+))?", self.address)
        assert found, (self.address, self.process.stderr.read())
        self.port, self.token = int(found[2]), found[3]

    def get(self, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def stop(self, number=signal.SIGINT):
        """Status and standard error."""
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
            return self.process.returncode, errors
        finally:
            self.process.kill()


def test_a_page_is_served_until_ctrl_c(tmp_path):
    (tmp_path / "mine.json").write_text(SMALL.to_json())
    made = Running(tmp_path / "mine.json", "--port", 0, SSH_CONNECTION="1.2.3.4 5 6.7.8.9 22")
    try:
        assert made.address == f"http://127.0.0.1:{made.port}/"
        assert made.token is None
        status, _, body = made.get("/")
        assert status == 200
        assert b"<title>gpurender explore</title>" in body
        status, _, body = made.get("/api/start")
        first = json.loads(body)["first"]
        assert Asked.of(first["recipe"], first["set"]).recipe == SMALL
        assert made.get("/", Host="evil.example")[0] == 421
    finally:
        status, errors = made.stop()
    assert status == -signal.SIGINT  # as of gpurender serve: a shell's loop ends, too
    tunnel, said = (line for line in errors.splitlines() if "compiling the kernels" not in line)  # where none are kept
    assert tunnel == (
        f"on your own machine: ssh -N -L {made.port}:127.0.0.1:{made.port} {socket.gethostname()}, "
        "then open the address there"
    )
    assert said == "gpurender: error: interrupted"


def test_beyond_loopback_there_is_a_token():
    made = Running("--port", 0, "--host", "0.0.0.0")
    try:
        assert made.address.startswith(f"http://{socket.gethostname()}:{made.port}/?token=")
        assert len(made.token) == 43  # 256 bits
        assert made.get("/")[0] == made.get("/api/alive")[0] == 403
        status, headers, _ = made.get(f"/?token={made.token}")
        assert (status, headers["location"]) == (303, "./")
        cookie = headers["set-cookie"].partition(";")[0]
        assert made.get("/", Cookie=cookie)[0] == 200
    finally:
        status, _ = made.stop(signal.SIGTERM)
    assert status == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "port must be an integer in [0, 65535], got 70000"),
        (["visualatom-2k", "--port", "0"], "recipe 'visualatom-2k' is neither a preset ("),
        (["nothing.json", "--port", "0"], "recipe 'nothing.json' is neither a preset ("),
    ],
)
def test_wrong_words_are_refused_in_one_line(capsys, words, said):
    assert cli.main(["explore", *words]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"gpurender: error: {said}")
    assert len(found.err.splitlines()) == 1


def test_a_busy_port_is_said_in_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["explore", "--port", str(port)]) == 1
    said = f"gpurender: error: port {port} of 127.0.0.1: address already in use; --port 0 takes a free one\n"
    assert capsys.readouterr().err == said


def test_a_recipe_that_is_too_long_for_an_address_is_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "long.json").write_text(gr.FractalDB(categories=[[[0.5, 0, 0, 0.5, 0, 0]]] * 9).to_json())
    monkeypatch.setattr(serving, "MOST_TEXT", 300)
    assert cli.main(["explore", str(tmp_path / "long.json"), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(
        "gpurender: error: recipe must have at most 300 characters of JSON for this page, got 3[0-9]{2}\n", said
    )


def test_what_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["explore", "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gpurender: error: explore needs Starlette and uvicorn: pip install 'gpurender[serve]' (")


@pytest.mark.parametrize(
    ("words", "screen", "opened"),
    [([], True, True), ([], False, False), (["--no-browser"], True, False)],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3"])
def test_a_browser_is_opened_where_there_is_a_screen(monkeypatch, capsys, words, screen, opened, host):
    calls, drawn = [], []
    monkeypatch.setattr(web, "run", lambda made, host, port, announce, ending: announce(host, port))
    monkeypatch.setattr(serving.webbrowser, "open", calls.append)
    monkeypatch.setattr(serving.secrets, "token_urlsafe", lambda size: "T" * size)
    monkeypatch.setattr(serving, "has_screen", lambda environment, platform: screen)
    monkeypatch.setattr("gpurender.commands.explorer.application.Page.warm_up", lambda page: drawn.append(page))
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert cli.main(["explore", "rcdb-1k", "--host", host, "--port", "123", *words]) == 0
    address = f"http://{host}:123/" + ("" if host == "127.0.0.1" else "?token=" + "T" * 32)
    assert capsys.readouterr() == (address + "\n", "")
    for thread in threading.enumerate():
        if thread.name in ("gpurender-browser", "gpurender-warm-up"):
            thread.join(PATIENCE)
    assert calls == ([address] if opened else [])
    assert len(drawn) == 1


def test_a_browser_that_comes_back_when_it_ends_holds_nothing_up(monkeypatch):
    """``$BROWSER`` may name one; the server begins while it runs."""
    closed, threads = threading.Event(), []

    def window(address):
        threads.append(threading.current_thread())
        closed.wait(PATIENCE)

    def run(made, host, port, announce, ending):
        announce(host, port)
        assert not closed.is_set()
        closed.set()

    monkeypatch.setattr(web, "run", run)
    monkeypatch.setattr(serving.webbrowser, "open", window)
    monkeypatch.setattr(serving, "has_screen", lambda environment, platform: True)
    monkeypatch.setattr("gpurender.commands.explorer.application.Page.warm_up", lambda page: None)
    assert cli.main(["explore", "rcdb-1k", "--port", "123"]) == 0
    for thread in threading.enumerate():
        if thread.name == "gpurender-browser":
            thread.join(PATIENCE)
    assert [thread.daemon for thread in threads] == [True]


def test_where_there_is_a_screen():
    assert not serving.has_screen({}, "linux")
    assert not serving.has_screen({"DISPLAY": ""}, "linux")
    assert serving.has_screen({"DISPLAY": ":0"}, "linux")
    assert serving.has_screen({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert serving.has_screen({}, "darwin")


def test_how_to_reach_it_by_ssh(monkeypatch):
    monkeypatch.setattr(serving.socket, "gethostname", lambda: "node7")
    assert serving.tunnel({}, "127.0.0.1", 80) == ""
    assert serving.tunnel({"SSH_CONNECTION": ""}, "0.0.0.0", 80) == ""
    assert serving.tunnel({"SSH_CONNECTION": ""}, "127.0.0.1", 80) == (
        "on your own machine: ssh -N -L 80:127.0.0.1:80 node7, then open the address there"
    )
