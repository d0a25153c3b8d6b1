"""The answers of the page's server, asked as a browser asks, and as others do."""

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

import gpurender as gr
from gpurender.commands.recipe import as_text, size
from gpurender.runtime import threads

pytest.importorskip("starlette", reason="needs starlette, of the extra 'serve'")
pytest.importorskip("httpx", reason="needs httpx, with which Starlette tests")
from starlette.testclient import TestClient

from gpurender.commands.explorer import application as module
from gpurender.commands.explorer.application import Page, application
from gpurender.commands.explorer.asked import Asked
from gpurender.commands.explorer.slots import Slots

ATOMS = gr.VisualAtom(classes=3, instances=4, image_size=48, orbits=(2, 4), radius=(3, 6))
SET = {"classes": "3", "instances": "4", "image_size": "48", "orbits": "[2, 4]", "radius": "[3, 6]"}
DRAW = {"slot": "t", "recipe": "visualatom", "set": SET}
HOME = "http://127.0.0.1:8050"


def patient_page():
    """A page that waits for as long as this machine compiles."""
    page = Page()
    page._slots = Slots(1000.0)
    return page


@pytest.fixture(scope="module")
def client():
    return TestClient(application(patient_page()), base_url=HOME)


def test_one_answer_has_all_that_the_page_shows(client):
    answer = client.post("/api/draw", json={**DRAW, "class": 2, "instance": 1})
    assert answer.status_code == 200
    found = answer.json()
    canvas = np.array(Image.open(io.BytesIO(base64.b64decode(found.pop("canvas").partition(",")[2]))))
    assert np.array_equal(canvas, gr.Renderer(ATOMS)(9)[0, 0].numpy())
    assert found.pop("milliseconds") > 0
    assert 1 <= found.pop("brightness") <= 4
    parameters = {each["name"]: each for each in found.pop("parameters")}
    assert parameters["orbits"] == {
        "name": "orbits", "kind": "integers", "low": 1, "high": 2048, "choices": [], "more": False, "off": False,
        "help": "K, lines around the nucleus, 1 to 2048.",
    }  # fmt: skip
    values = found.pop("values")
    assert set(parameters) <= set(values)
    assert {name: json.loads(values[name]) for name in ("orbits", "seed", "variant", "perturb", "class_prior")} == {
        "orbits": [2, 4], "seed": 0, "variant": "released", "perturb": None, "class_prior": None,
    }  # fmt: skip
    assert found == {
        "class": 2, "instance": 1, "instances": 4, "most": 4, "sample": 9, "label": 2, "views": [],
        "family": "visualatom", "classes": 3, "side": 48, "size": size(ATOMS), "fingerprint": ATOMS.fingerprint,
        "paper": gr.VisualAtom.paper, "json": as_text(ATOMS),
        "python": "gr.VisualAtom(classes=3, instances=4, image_size=48, orbits=(2, 4), radius=(3, 6))",
    }  # fmt: skip
    assert gr.recipe(found["json"]) == eval(found["python"], {"gr": gr}) == ATOMS


def test_a_preset_with_other_values(client):
    found = client.post("/api/draw", json={"slot": "t", "recipe": "onepfrac-1k", "set": {"image_size": "32"}}).json()
    assert found["python"] == "gr.recipe('onepfrac-1k', image_size=32)"
    assert found["fingerprint"] == gr.recipe("onepfrac-1k", image_size=32).fingerprint
    assert found["values"]["sigma"] == "3.5"


def test_places_beyond_the_end_are_the_last_ones(client):
    found = client.post("/api/draw", json={**DRAW, "class": 99, "instance": 10**12}).json()
    assert (found["class"], found["instance"], found["sample"]) == (2, 3, 11)


def test_views_are_given_when_asked_for(client):
    found = client.post("/api/draw", json={**DRAW, "augment": "crop", "fresh": True}).json()
    assert len(found["views"]) == 8
    sides = {Image.open(io.BytesIO(base64.b64decode(view.partition(",")[2]))).size for view in found["views"]}
    assert sides == {(224, 224)}


def test_a_sheet(client):
    answer = client.post("/api/sheet", json={**DRAW, "cells": [[0, 0], [2, 3], [3, 0]], "side": 16})
    pictures = answer.json()["pictures"]
    assert pictures[2] is None
    assert Image.open(io.BytesIO(base64.b64decode(pictures[1].partition(",")[2]))).size == (16, 16)
    assert client.post("/api/sheet", json={**DRAW, "cells": [[0, 0]], "side": 256}).status_code == 200


@pytest.mark.parametrize(
    ("more", "parameter", "said"),
    [
        ({"set": {"orbits": "[5, 1]"}}, "orbits", "orbits must be a pair (low, high) with low <= high, got [5, 1]"),
        ({"set": {"orbits": "[0, 1]"}}, "orbits", "orbits[0] must be an integer in [1, 2048], got 0"),
        ({"set": {"orbits": "many"}}, "orbits", "orbits must be a pair (low, high) of integers, got 'many'"),
        ({"set": {"axes": "[1, 2]"}}, "axes", "axes must be left out (None) with variant='released', got [1, 2]: it "),
        ({"set": {"image_size": "4096"}}, "image_size", "image_size must be at most 2048 to be drawn on this page"),
        ({"set": {"seed": "NaN"}}, "seed", "seed must be an integer in [0, 18446744073709551615], got nan"),
        ({"set": {"orbit": "3"}}, "orbit", "visualatom has no parameter 'orbit'; "),
        ({"set": 3}, None, "set must be an object of at most 64 texts, got 3"),
        ({"set": {"class_prior": "[1, 0, 1]"}, "class": 1}, None, "class 1 of this recipe has no image 0"),
        ({"recipe": "visualatom-2k"}, None, "recipe must be one of "),
        ({"class": -1}, None, "class must be an integer in [0, 9223372036854775807], got -1"),
        ({"augment": "nothing"}, None, "augment must be one of 'crop', "),
        ({"fresh": 1}, None, "fresh must be True or False, got 1"),
        ({"slot": ""}, None, "slot must be a text of 1 to 64 characters, got ''"),
        ({"slot": "x" * 65}, None, "slot must be a text of 1 to 64 characters, got 'xx"),
        ({"slot": None}, None, "slot must be a text of 1 to 64 characters, got None"),
    ],
)
def test_refusals_name_the_parameter(client, more, parameter, said):
    if isinstance(more.get("set"), dict):
        more = {**more, "set": {**SET, **more["set"]}}
    answer = client.post("/api/draw", json={**DRAW, **more})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)
    assert answer.json()["parameter"] == parameter


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "side must be an integer in [16, 256], got None"),
        ({"side": 15}, "side must be an integer in [16, 256], got 15"),
        ({"side": 257}, "side must be an integer in [16, 256], got 257"),
        ({"side": 64, "cells": []}, "cells must be 1 to 48 pairs (class, instance), got []"),
        ({"side": 64, "augment": "x"}, "augment must be one of "),
    ],
)
def test_refusals_of_a_sheet(client, more, said):
    answer = client.post("/api/sheet", json={**DRAW, "cells": [[0, 0]], **more})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body must be JSON: "),
        (b"\x80\x04\x95.", 400, "the body must be JSON: "),
        (b"[" * 100_000, 400, "the body must be JSON: "),
        (b"[]", 400, "the body must be a JSON object"),
        (
            b'{"path": 1}',
            400,
            "the body has no entry 'path'; it has slot, recipe, set, class, instance, augment, fresh",
        ),
        (b" " * (2**20 + 1), 413, "a body must have at most 1048576 bytes"),
    ],
)
def test_wrong_bodies(client, body, status, said):
    answer = client.post("/api/draw", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["error"].startswith(said)


def test_what_there_is_to_choose_from():
    client = TestClient(application(Page(Asked.of("rcdb", {"seed": "3"}))), base_url=HOME)
    found = client.get("/api/start").json()
    assert found["version"] == gr.__version__
    assert found["first"] == {"recipe": "rcdb", "set": {"seed": "3"}}
    assert found["policies"] == ["crop", "deit", "onepfrac", "ofdb", "fractaldb", "visualatom", "resnet"]
    assert {family["name"] for family in found["families"]} >= {"mixture", "schedule", "moire", "fractaldb"}
    assert sorted(name for family in found["families"] for name in family["presets"]) == gr.presets()
    assert client.get("/api/alive").json() == {"gpurender": gr.__version__}
    assert TestClient(application(Page()), base_url=HOME).get("/api/start").json()["first"] == {
        "recipe": "visualatom-1k", "set": {},
    }  # fmt: skip


def test_a_table_is_not_sent_back_and_its_parameters_are_those_of_a_search(client):
    rows = [[0.5, 0.0, 0.0, 0.5, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5, 0.5, 0.0]]
    words = {"categories": json.dumps([rows] * 200), "points": "100", "image_size": "32"}
    found = client.post("/api/draw", json={"slot": "t", "recipe": "fractaldb", "set": words}).json()
    assert found["classes"] == 200
    assert "categories" not in found["values"]
    assert {"categories", "points", "fill_rate"} <= {each["name"] for each in found["parameters"]}
    words["categories"] = json.dumps([rows] * 2)
    found = client.post("/api/draw", json={"slot": "t", "recipe": "fractaldb", "set": words}).json()
    assert json.loads(found["values"]["categories"]) == [rows] * 2
    assert "fill_rate" not in {each["name"] for each in found["parameters"]}


# ------------------------------------------------------------------------------------------------------------ files


def test_the_page_and_its_parts(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>gpurender explore</title>" in page.text
    names = {path.name for path in module.importlib.resources.files(module.__package__).joinpath("static").iterdir()}
    assert {"index.html", "main.js", "style.css", "icon.svg"} <= names
    for name in names:
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        kind = module.TYPES["." + name.partition(".")[2]]
        assert answer.headers["content-type"].partition(";")[0] == kind
        for word in ("http://", "https://"):  # nothing is loaded from elsewhere
            found = answer.text.replace("http://www.w3.org/2000/svg", "").replace('replace("https://", "")', "")
            assert word not in found
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "'unsafe" not in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../application.py", "/static/..%2fapplication.py", "/static/%2e%2e/application.py",
        "/static/..%2f..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd", "/static/", "/static/main.js%00", "/static/main",
        "/application.py", "/static/static/main.js", "/etc/passwd", "/static//etc/passwd", "/api/", "/favicon.ico",
    ],
)  # fmt: skip
def test_no_path_leads_to_other_files(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_methods(client):
    assert client.get("/api/draw").status_code == 405
    assert client.post("/", json={}).status_code == 405
    assert client.put("/static/main.js", content=b"").status_code == 405


# ------------------------------------------------------------------------------------------------------ who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8050", 200), ("localhost:9000", 200), ("LOCALHOST", 200), ("localhost.", 200), ("[::1]:8050", 200),
        ("127.9.9.9", 200), ("evil.example:8050", 421), ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("192.168.1.5:8050", 421), ("0.0.0.0:8050", 421), ("[::1", 421), ("evil.example@127.0.0.1", 421),
        ("127.0.0.1@evil.example", 421),
    ],
)  # fmt: skip
def test_on_loopback_the_host_must_be_this_machine(client, host, status):
    """Else the page of a site whose name was turned to 127.0.0.1 could read the answers (DNS rebinding)."""
    for path in ("/", "/api/start", "/static/main.js", "/nothing"):
        assert client.get(path, headers={"Host": host}).status_code == (
            404 if path == "/nothing" and status == 200 else status
        )
    if status != 200:
        said = {"error": "this server is asked as localhost or 127.0.0.1"}
        assert client.get("/", headers={"Host": host}).json() == said
        assert client.post("/api/draw", json=DRAW, headers={"Host": host}).status_code == 421


def test_other_sites_cannot_make_it_work(client):
    for origin in (
        "http://evil.example",
        "null",
        "http://[::1",
        "http://localhost:8050",
        "http://127.0.0.1",
        "https://127.0.0.1:1",
    ):
        answer = client.post("/api/draw", json=DRAW, headers={"Origin": origin})
        assert (answer.status_code, answer.json()) == (403, {"error": "this server answers its own page alone"})
    assert client.post("/api/draw", json=DRAW, headers={"Origin": HOME}).status_code == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
        answer = client.post("/api/draw", content=json.dumps(DRAW), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()) == (415, {"error": "the body must be application/json"})
    answer = client.post(
        "/api/draw", content=json.dumps(DRAW), headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert answer.status_code == 200


TOKEN = "s3cret-token"


@pytest.fixture
def guarded():
    return TestClient(application(patient_page(), TOKEN), base_url="http://node7:8050", follow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/api/start", "/static/main.js", "/api/alive", "/nothing"])
@pytest.mark.parametrize(
    "given", ["", "?token=", "?token=s3cret-toke", "?token=s3cret-token2", "?token=%ff", "?Token=s3cret-token"]
)
def test_elsewhere_nobody_asks_without_the_token(guarded, path, given):
    answer = guarded.get(path + given)
    assert answer.status_code == 403
    assert answer.json() == {"error": "the address needs the token that gpurender explore printed"}
    assert "set-cookie" not in answer.headers
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_token_becomes_a_cookie(guarded):
    answer = guarded.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert cookie.startswith(f"gpurender-{module.Guard(None, TOKEN)._cookie[-8:]}={TOKEN};")
    assert guarded.get("/").status_code == 200
    assert guarded.post("/api/draw", json=DRAW).status_code == 200
    assert guarded.post("/api/draw", json=DRAW, headers={"Origin": "http://evil.example"}).status_code == 403
    assert guarded.get("/", headers={"Host": "127.0.0.1"}).status_code == 200  # through a tunnel


def test_cookies_of_other_servers_of_the_host_do_not_hide_the_token(guarded):
    """Cookies know no ports: those of another one come, too, and a browser sends what a script has set."""
    name = module.Guard(None, TOKEN)._cookie
    for cookie in ('ui={"a":1}; %s', '%s; ui={"a": [1, 2]}', "odd,name=1; %s", "a; %s; =b", 'open="; %s', "é=ü;%s"):
        given = (cookie % f"{name}={TOKEN}").encode()
        assert guarded.get("/", headers={"Cookie": given}).status_code == 200


def test_wrong_cookies_and_posts_with_the_token(guarded):
    name = module.Guard(None, TOKEN)._cookie
    for cookie in (f"{name}=x", f"{name}=", f"other={TOKEN}", f"{name}={TOKEN}x", "=;=;;", f"{name}=\xff"):
        assert guarded.get("/", headers={"Cookie": cookie.encode("latin-1")}).status_code == 403
    answer = guarded.post(f"/api/draw?token={TOKEN}", json=DRAW)
    assert (answer.status_code, answer.json()) == (403, {"error": "the token is taken from the cookie"})
    assert guarded.get(f"//evil.example/?token={TOKEN}").headers["location"] == "./"
    assert module.Guard(None, "other")._cookie != name  # two servers on one host


# ----------------------------------------------------------------------------------------------- the newest request


class Slow:
    """An answer that ends when it is told to, or is not wanted any more."""

    def __init__(self):
        self.begun, self.go_on, self.stopped = threading.Event(), threading.Event(), False

    def __call__(self):
        self.begun.set()
        until = time.monotonic() + 120
        while not self.go_on.is_set():
            try:
                threads.parallel_ranges(1, lambda a, b: time.sleep(0.005))
            except threads.StoppedError:
                self.stopped = True
                raise
            assert time.monotonic() < until
        return "done"


def gathered(*answers):
    import asyncio

    async def all_of_them():
        return await asyncio.gather(*answers, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_a_newer_request_of_a_slot_ends_the_older_one():
    slots, slow = Slots(), Slow()

    async def later():
        import asyncio

        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        return await slots.newest("a", lambda: "new")

    old, new = gathered(slots.newest("a", slow), later())
    assert (old.status_code, old.detail) == (409, "a newer request has come")
    assert (new, slow.stopped) == ("new", True)
    assert slots._newest == {}


def test_waiting_requests_that_are_overtaken_are_never_made():
    """Four answers are made at once; of a hundred requests that wait behind them in one slot the last one is made."""
    slots, slow, made = Slots(), [Slow() for _ in range(4)], []

    async def many():
        import asyncio

        while not all(one.begun.is_set() for one in slow):
            await asyncio.sleep(0.001)
        waiting = [asyncio.ensure_future(slots.newest("x", lambda i=i: made.append(i))) for i in range(100)]
        await asyncio.sleep(0.01)
        for one in slow:
            one.go_on.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    *done, waited = gathered(*(slots.newest(str(i), one) for i, one in enumerate(slow)), many())
    assert done == ["done"] * 4
    assert made == [99]
    assert [getattr(each, "status_code", each) for each in waited] == [409] * 99 + [None]


def test_other_slots_go_on():
    slots, slow = Slots(), Slow()

    async def other():
        import asyncio

        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        found = await slots.newest("b", lambda: 1)
        slow.go_on.set()
        return found

    assert gathered(slots.newest("a", slow), other()) == ["done", 1]


def test_what_takes_too_long_is_given_up():
    [found] = gathered(Slots(0.05).newest("a", Slow()))
    assert (found.status_code, found.detail) == (503, "this takes more than 0.05 s; ask again to go on")


def test_an_answer_for_which_nobody_waits_is_given_up():
    slots, slow, looks = Slots(), Slow(), []

    async def gone():
        looks.append(slow.begun.wait(120))
        return len(looks) == 2

    [found] = gathered(slots.newest("a", slow, gone))
    assert (found.status_code, found.detail) == (400, "the client has gone")
    assert looks == [True, True]
    slots._pool.shutdown()
    assert slow.stopped
    assert slots._newest == {}


def test_a_request_whose_client_goes_is_looked_at(monkeypatch):
    """The page's requests say whether they are waited for."""
    asked = []

    async def newest(slot, make, gone):
        asked.append((slot, await gone()))
        return {}

    page = Page()
    monkeypatch.setattr(page._slots, "newest", newest)
    other = TestClient(application(page), base_url=HOME)
    assert other.post("/api/draw", json=DRAW).status_code == 200
    assert other.post("/api/sheet", json={"slot": "s"}).status_code == 200
    assert asked == [("t", False), ("s", False)]


def test_too_many_slots_are_refused():
    slots = Slots()
    slots._newest = {str(i): threading.Event() for i in range(63)}
    [found] = gathered(slots.newest("a", lambda: 1))
    assert found == 1
    slots._newest["63"] = threading.Event()
    refused, newer = gathered(slots.newest("a", lambda: 1), slots.newest("63", lambda: 2))
    assert (refused.status_code, refused.detail) == (503, "too many pictures are asked for at once; ask again")
    assert newer == 2


def test_other_errors_are_said_in_one_line_and_logged(monkeypatch, caplog):
    def broken(*given):
        raise RuntimeError("out of\n  luck")

    page = Page()
    monkeypatch.setattr(page._easel, "draw", broken)
    answer = TestClient(application(page), base_url=HOME).post("/api/draw", json=DRAW)
    assert (answer.status_code, answer.json()) == (500, {"error": "RuntimeError: out of luck", "parameter": None})
    assert [record.getMessage() for record in caplog.records] == ["gpurender explore: RuntimeError: out of luck"]
    assert caplog.records[0].exc_info[0] is RuntimeError


@pytest.mark.parametrize("path", ["/api/start", "/"])
def test_an_error_of_any_other_request_is_a_sentence_too(monkeypatch, path):
    def broken(*given):
        raise RuntimeError("out of\n  luck")

    monkeypatch.setattr(module, "_families", broken)
    monkeypatch.setattr(Page, "_file", broken)
    client = TestClient(application(Page()), base_url=HOME, raise_server_exceptions=False)
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (500, {"error": "RuntimeError: out of luck"})
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("GET", "/api/nothing", {}, 404),
        ("GET", "/api/draw", {}, 405),
        ("POST", "/api/draw", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/api/draw", {"content": b"no", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/api/draw", {"json": {"slot": "t", "recipe": "none"}}, 400),
        ("POST", "/api/sheet", {"json": {"slot": 7}}, 400),
        ("GET", "/api/alive", {"headers": {"host": "elsewhere"}}, 421),
        ("GET", "/api/alive", {"headers": {"origin": "http://elsewhere"}}, 403),
    ],
)
def test_every_refusal_is_json_with_a_sentence(client, method, path, given, status):
    answer = client.request(method, path, **given)
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)
    assert answer.json()["error"]


def test_a_server_that_ends_waits_for_no_answer():
    slots, slow = Slots(), Slow()

    async def later():
        import asyncio

        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        slots.end()

    found, _ = gathered(slots.newest("a", slow), later())
    assert (found.status_code, found.detail) == (503, "the server ends")


def test_errors_come_through():
    def wrong():
        raise ValueError("points must be right")

    slots = Slots()
    [found] = gathered(slots.newest("a", wrong))
    assert (type(found), str(found)) == (ValueError, "points must be right")
    assert slots._newest == {}


def test_the_first_picture_is_drawn_in_advance(monkeypatch):
    drawn = []
    page = Page(Asked.of("rcdb", {"classes": "2", "image_size": "32"}))
    monkeypatch.setattr(page._easel, "draw", lambda *given: drawn.append(given))
    page.warm_up()
    assert drawn == [(gr.RCDB(classes=2, image_size=32), 0, 0, None, False)]
    Page(Asked.of("rcdb", {"classes": "0"})).warm_up()  # the page says what is wrong
