"""The server by HTTP: a real one on loopback, and real clients, well-behaved and not."""

import concurrent.futures
import errno
import http.client
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import gpurender as gr
from gpurender.server.application import Rates
from tests.server.support import FILES, NAMES, expert, file_server, pictures, recipe_server

pytest.importorskip("timm", reason="needs timm")
pytest.importorskip("starlette", reason="needs starlette, of the extra 'serve'")
pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra 'serve'")
Z = {"ant": 0.3, "bee": 0.7, "cow": 0.65}
FUZZED = 3000  # requests: a line of log for each would fill the pipe of standard error, and stop the server


class Running:
    """A server process."""

    def __init__(self, folder, *options, environment=None):
        words = [sys.executable, "-c", CODE, str(folder), *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.process.stderr.read()
        self.port = int(self.address.rpartition(":")[2])

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, method, path, values=None):
        """Status and JSON of one answer."""
        status, _, body = self.request(method, path, None if values is None else json.dumps(values))
        return status, json.loads(body)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


# The limits of rate and silence are lowered, so that tests need not wait for them.
CODE = """
import sys
from gpurender.server import application
from gpurender.util import web
web.SILENT_SECONDS, web.BODY_SECONDS = 0.4, 0.5
from gpurender.commands.cli import main
if "--slow" in sys.argv:
    sys.argv.remove("--slow")
    made = application.application
    application.application = lambda folder, **options: made(folder, rate=20, **options)
else:
    made = application.application
    application.application = lambda folder, **options: made(folder, rate=10**6, **options)
sys.exit(main(["serve", sys.argv[1], "--port", "0", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    recipe_server(root)
    (root / "secret.txt").write_text("the key")
    (root / "experts" / "hidden.safetensors").write_text("not in the catalogue")
    return root


@pytest.fixture(scope="module")
def server(folder):
    made = Running(folder, "--reports")
    yield made
    assert made.stop() == 0 or made.process.returncode == -signal.SIGTERM


def test_what_it_is(server):
    assert server.json("GET", "/") == (200, {
        "gpurender": "data server", "task": "rotation", "kind": "recipes", "experts": 3, "sources": 3, "reports": True,
    })  # fmt: skip


def test_files_come_whole_and_in_ranges(server, folder):
    status, headers, body = server.request("GET", "/catalogue.json")
    assert (status, body) == (200, (folder / "catalogue.json").read_bytes())
    content = (folder / "experts" / "bee.safetensors").read_bytes()
    status, headers, body = server.request("GET", "/experts/bee.safetensors")
    assert (status, body) == (200, content)
    assert headers["etag"]
    status, headers, body = server.request("GET", "/experts/bee.safetensors", headers={"Range": "bytes=1000-1999"})
    assert (status, body) == (206, content[1000:2000])
    assert headers["content-range"] == f"bytes 1000-1999/{len(content)}"
    status, _, body = server.request("HEAD", "/experts/bee.safetensors")
    assert (status, body) == (200, b"")


def test_a_client_adapts_and_gets_a_recipe(server, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "cache"))
    pictures(tmp_path / "mine", 4)
    client, local = gr.DataServer(server.address + "/"), gr.DataServer(folder)
    assert repr(client) == f"DataServer({server.address!r}: 3 experts)"
    scores = client.adapt(tmp_path / "mine", device="cpu")
    assert scores == local.adapt(tmp_path / "mine", device="cpu")
    assert client.recommend(scores, budget=1000) == local.recommend(scores, budget=1000)
    assert client.expert("ant").read_bytes() == local.expert("ant").read_bytes()
    assert str(client.expert("ant")).startswith(str(tmp_path / "cache"))


def test_recommendations_are_those_of_the_folder(server, folder):
    status, found = server.json("POST", "/recommend", {"scores": Z, "budget": "10M", "max_share": 0.6})
    expected = gr.DataServer(folder).recommend(Z, budget="10M", max_share=0.6)
    assert status == 200
    assert gr.recipe(json.dumps(found.pop("recipe"))) == expected.recipe
    assert found.pop("files") is None
    assert found == json.loads(expected.to_json())


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/recommend", b"", 400, "the body must be JSON: "),
        ("/recommend", b"\x80\x04\x95.", 400, "the body must be JSON: "),
        ("/recommend", b"[" * 100_000, 400, "the body must be JSON: "),
        ("/recommend", b"[]", 400, "the body must be a JSON object"),
        ("/recommend", b"{}", 400, "scores must be a mapping of experts to numbers, got None"),
        ("/recommend", b'{"zcores": 1}', 400, "the body has no entry 'zcores'; it has scores, budget, max_share, seed"),
        ("/recommend", json.dumps({"scores": Z}).encode(), 400, "budget must be an integer in [1, "),
        (
            "/recommend",
            json.dumps({"scores": Z, "budget": 9, "max_share": 0.1}).encode(),
            400,
            "max_share must be at l",
        ),
        (
            "/recommend",
            b'{"scores": {"ant": NaN, "bee": 1, "cow": 1}, "budget": 1}',
            400,
            "scores['ant'] must be a fin",
        ),
        ("/recommend", b" " * (2**18 + 1), 413, "a body must have at most 262144 bytes"),
        ("/report", json.dumps({"scores": Z, "result": "good"}).encode(), 400, "result must be a finite number"),
        ("/report", json.dumps({"result": 1}).encode(), 400, "scores must be a mapping"),
        ("/report", b'{"budget": 1}', 400, "the body has no entry 'budget'; it has scores, result"),
    ],
)
def test_wrong_bodies_are_refused_in_a_sentence(server, path, body, status, said):
    found, _, text = server.request("POST", path, body)
    assert found == status
    assert json.loads(text)["error"].startswith(said)


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt", "/experts/../secret.txt", "/experts/..%2fsecret.txt", "/experts/%2e%2e/secret.txt",
        "/experts/..%2f..%2fetc%2fpasswd", "//etc/passwd", "/experts/hidden.safetensors", "/experts/", "/experts/ant",
        "/experts/ant.safetensors%00", "/partitions/ant.json", "/reports.jsonl", "/plan.json",
        "/experts/dog.safetensors",
    ],
)  # fmt: skip
def test_no_path_leads_to_other_files(server, path):
    status, _, body = server.request("GET", path)
    assert status == 404
    assert b"key" not in body
    assert b"root:" not in body


def test_methods(server):
    assert server.request("GET", "/recommend")[0] == 405
    assert server.request("POST", "/catalogue.json", b"{}")[0] == 405
    assert server.request("DELETE", "/experts/ant.safetensors")[0] == 405


def test_reports_are_kept(server, folder):
    for result in (0.5, -1):
        assert server.json("POST", "/report", {"scores": Z, "result": result}) == (201, {"kept": True})
    lines = [json.loads(line) for line in (folder / "reports.jsonl").read_text().splitlines()]
    assert lines[-2:] == [{"scores": Z, "result": 0.5}, {"scores": Z, "result": -1.0}]


def test_reports_are_refused_unless_they_are_wanted(tmp_path):
    file_server(tmp_path)
    made = Running(tmp_path)
    try:
        assert made.json("POST", "/report", {"scores": Z, "result": 1}) == (
            404,
            {"error": "this server takes no reports"},
        )
        assert not (tmp_path / "reports.jsonl").exists()
        assert made.json("GET", "/partitions/ant.json") == (200, FILES["ant"])
        status, found = made.json("POST", "/recommend", {"scores": Z, "budget": 3, "seed": 2})
        assert status == 200
        assert tuple(found["files"]) == gr.DataServer(tmp_path).recommend(Z, budget=3, seed=2).files
        assert found["recipe"] is None
        assert gr.DataServer(made.address).recommend(Z, budget=3, seed=2).files == tuple(found["files"])
        assert made.request("GET", "/partitions/dog.json")[0] == 404
        expert(tmp_path, "ant", 9)
        os.remove(tmp_path / "experts" / "bee.safetensors")
        assert made.json("GET", "/experts/bee.safetensors") == (404, {"error": "the file is not there"})
    finally:
        made.stop()


def test_what_is_added_is_served_at_once(tmp_path):
    recipe_server(tmp_path, names=NAMES[:2])
    made = Running(tmp_path)
    try:
        assert made.json("GET", "/")[1]["sources"] == 2
        recipe_server(tmp_path)
        assert made.json("GET", "/")[1]["sources"] == 3
    finally:
        made.stop()


def test_a_hundred_clients_at_once(server, folder):
    content = (folder / "experts" / "ant.safetensors").read_bytes()

    def one(number):
        if number % 2:
            return server.request("GET", "/experts/ant.safetensors")[2] == content
        return server.json("POST", "/recommend", {"scores": Z, "budget": number + 1})[1]["expert"] == "bee"

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        assert all(pool.map(one, range(100)))


def test_slow_and_silent_clients_are_sent_away(server):
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(20)]
    silent[1].sendall(b"GET / HT")  # and no more
    silent[2].sendall(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert b"408" in silent[2].recv(1000)
    for one in silent[:2] + silent[3:]:
        assert one.recv(1000) in (b"",) or one.recv(1000) == b""
    for one in silent:
        one.close()
    assert server.json("GET", "/")[0] == 200


def test_a_client_that_does_not_read_its_answer_is_sent_away(tmp_path):
    recipe_server(tmp_path)
    os.truncate(tmp_path / "experts" / "ant.safetensors", 1 << 26)  # more than the system keeps for a socket
    made = Running(tmp_path)
    try:
        stuck = socket.create_connection(("127.0.0.1", made.port), timeout=20)
        stuck.sendall(b"GET /experts/ant.safetensors HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stuck.recv(12) == b"HTTP/1.1 200"
        process = psutil.Process(made.process.pid)
        until = time.monotonic() + 20
        while any(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp")):
            assert time.monotonic() < until
            time.sleep(0.05)
        stuck.close()
        reading = socket.create_connection(("127.0.0.1", made.port), timeout=20)
        reading.sendall(b"GET /experts/ant.safetensors HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        taken = 0
        while block := reading.recv(1 << 22):  # slow, but not stuck: longer than a silent client is kept
            taken += len(block)
            time.sleep(0.05)
        assert taken > 1 << 26
        reading.close()
    finally:
        made.stop()


def test_a_catalogue_that_is_damaged_meanwhile_is_said(tmp_path):
    recipe_server(tmp_path)
    made, whole = Running(tmp_path), (tmp_path / "catalogue.json").read_text()
    said = (503, {"error": "the catalogue of this server cannot be read"})
    try:
        (tmp_path / "catalogue.json").write_text(whole[:-9])
        assert made.json("GET", "/") == said
        assert made.json("POST", "/recommend", {"scores": Z, "budget": 5}) == said
        os.remove(tmp_path / "catalogue.json")
        assert made.json("GET", "/experts/ant.safetensors") == said
        (tmp_path / "catalogue.json").write_text(whole)
        assert made.json("GET", "/")[1]["experts"] == 3
    finally:
        made.stop()


def test_half_a_report_is_taken_back(tmp_path, monkeypatch):
    from gpurender.server import application

    recipe_server(tmp_path)
    site = application._Site(tmp_path, True, 1)
    site._keep("whole")

    class Full(io.StringIO):
        def write(self, text):
            with open(tmp_path / "reports.jsonl", "a") as file:
                file.write(text[:2])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(application, "open", lambda *_, **__: Full(), raising=False)
    with pytest.raises(application.HTTPException) as caught:
        site._keep("half")
    assert (caught.value.status_code, caught.value.detail) == (507, "the report cannot be kept")
    assert (tmp_path / "reports.jsonl").read_text() == "whole\n"


def test_clients_that_go_away_do_no_harm(server):
    for number in range(30):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        one.sendall(b"GET /experts/ant.safetensors HTTP/1.1\r\nHost: x\r\n\r\n"[: 10 + 2 * number])
        one.close()
    assert server.json("GET", "/")[0] == 200


def test_garbage_is_answered_or_cut_off_and_costs_no_memory(server):
    generator = random.Random(5)
    process = psutil.Process(server.process.pid)
    seeds = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /experts/ant.safetensors HTTP/1.1\r\nHost: x\r\nRange: bytes=1-5\r\n\r\n", bytes(range(256)),
    ]  # fmt: skip
    before = None
    for number in range(FUZZED):
        data = bytearray(generator.choice(seeds))
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
            one.sendall(bytes(data))
            one.shutdown(socket.SHUT_WR)
            while one.recv(65_536):
                pass
        if number == FUZZED // 3:
            before = process.memory_info().rss
    assert server.process.poll() is None
    assert process.memory_info().rss < before + 32 * 2**20
    assert server.json("GET", "/")[0] == 200


def test_a_client_has_a_number_of_requests_per_minute(folder):
    made = Running(folder, "--slow")
    try:
        found = [made.request("GET", "/")[0] for _ in range(25)]
        assert found[:20] == [200] * 20
        assert found[-1] == 429
        status, headers, _ = made.request("GET", "/")
        assert status == 429
        assert headers["retry-after"] == "10"
    finally:
        made.stop()


def test_buckets_fill_again_and_forget_the_longest_silent(monkeypatch):
    rates = Rates(60)
    assert [rates.allows("a", 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert rates.allows("b", 0.0)
    assert not rates.allows("a", 0.9)
    assert rates.allows("a", 1.1)  # one per second, and 0.9 s had passed before
    assert not rates.allows("a", 1.2)
    assert [rates.allows("a", 1000.0) for _ in range(61)] == [True] * 60 + [False]
    from gpurender.server import application

    monkeypatch.setattr(application, "MAX_CLIENTS", 2)
    small = Rates(1)
    assert [small.allows(name, 0.0) for name in "abc"] == [True] * 3
    assert not small.allows("c", 0.0)
    assert small.allows("a", 0.0)  # forgotten


def test_a_killed_server_comes_back_with_all_it_had(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GPURENDER_CACHE_DIR", str(tmp_path / "cache"))
    made = Running(folder)
    made.process.kill()
    made.process.wait()
    began = time.monotonic()
    with pytest.raises(OSError, match="no answer"):
        gr.DataServer(made.address)
    assert time.monotonic() - began < 20
    again = Running(folder)
    try:
        assert gr.DataServer(again.address).catalogue.to_json() == gr.DataServer(folder).catalogue.to_json()
    finally:
        again.stop()


def test_what_cannot_be_served_is_said_in_one_line(tmp_path, folder):
    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "gpurender", "serve", *map(str, words)], capture_output=True, text=True, timeout=120
        )  # fmt: skip

    found = run(tmp_path)
    assert found.returncode == 2
    assert "has no catalogue.json" in found.stderr
    found = run(folder, "--port", 70_000)
    assert (found.returncode, found.stderr) == (
        2, "gpurender: error: port must be an integer in [0, 65535], got 70000\n"
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = run(folder, "--port", taken.getsockname()[1])
    assert found.returncode == 1
    assert "address already in use" in found.stderr.lower()
