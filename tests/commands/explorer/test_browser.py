"""The page in a real browser: Chromium without a window, driven by Playwright. Skipped where one of them is absent.

Playwright's own browsers are not needed, and nothing is downloaded: the system's Chromium is used.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import gpurender as gr
from gpurender.commands.explorer.asked import Asked

pytest.importorskip("starlette", reason="needs starlette, of the extra 'serve'")
pytest.importorskip("uvicorn", reason="needs uvicorn, of the extra 'serve'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("needs Chromium", allow_module_level=True)

ATOMS = gr.VisualAtom(classes=40, instances=6, image_size=64, orbits=(2, 4), radius=(3, 6))
SAME = "document.querySelector('.frame img').src"
WAIT = 40_000  # milliseconds: a machine may be busy, and the first picture compiles


class Server:
    """The command in a process, on one port through its lives."""

    def __init__(self, recipe, port=0, *more):
        words = [sys.executable, "-m", "gpurender", "explore", str(recipe), "--port", str(port), "--no-browser", *more]
        self.recipe = recipe
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # nohup ignores it
        )  # fmt: skip
        self.address = self.process.stdout.readline().strip()
        self.port = urlsplit(self.address).port

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("explore") / "atoms.json"
    path.write_text(ATOMS.to_json())
    made = Server(path)
    yield made
    made.process.send_signal(signal.SIGINT)
    try:
        assert made.process.wait(WAIT / 1000) == -signal.SIGINT
    finally:
        made.kill()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], timeout=WAIT
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server):
    """A page that has its first picture; errors of its scripts fail the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    context.set_default_timeout(WAIT)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    opened(page, server.address)
    yield page
    context.close()
    assert errors == []


def opened(page, address):
    page.goto(address)
    page.wait_for_selector(".frame img[src^=data]")
    page.wait_for_selector("#parameters .control")


def fingerprint(page, pane=0):
    return page.locator(".facts code").nth(pane).inner_text()


def wait_for_fingerprint(page, expected, pane=0):
    page.wait_for_function(
        "([text, pane]) => document.querySelectorAll('.facts code')[pane]?.innerText === text", arg=[expected, pane]
    )


def changed(**values):
    return gr.recipe(ATOMS, **values)


def test_a_parameter_is_changed_copied_and_reset(page):
    assert fingerprint(page) == ATOMS.fingerprint
    before = page.evaluate(SAME)
    page.fill("#p-orbits-1", "9")
    wait_for_fingerprint(page, changed(orbits=(2, 9)).fingerprint)
    assert page.evaluate(SAME) != before
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("text=Copy as JSON")
    page.wait_for_selector("text=Copied")
    assert gr.recipe(page.evaluate("navigator.clipboard.readText()")) == changed(orbits=(2, 9))
    page.click("text=Copy as Python")
    page.wait_for_function("() => navigator.clipboard.readText().then(text => text.startsWith('import'))")
    made = {}
    exec(page.evaluate("navigator.clipboard.readText()"), made)
    assert made["recipe"] == changed(orbits=(2, 9))
    page.click("[data-name=orbits] .reset")  # back to the family's default
    wait_for_fingerprint(page, changed(orbits=(1, 200)).fingerprint)
    assert page.input_value("#p-orbits-1") == "200"


def test_a_refusal_stands_beside_its_control_and_the_picture_stays(page):
    before = page.evaluate(SAME)
    page.fill("#p-orbits-1", "0")
    said = page.wait_for_selector("#e-orbits:visible").inner_text()
    assert said == "orbits[1] must be an integer in [1, 2048], got 0"
    assert page.get_attribute("#p-orbits", "aria-invalid") == "true"
    assert page.evaluate(SAME) == before
    assert page.locator(".frame.stale").count() == 1
    page.fill("#p-orbits-1", "5")
    wait_for_fingerprint(page, changed(orbits=(2, 5)).fingerprint)
    assert page.locator(".error:visible").count() == page.locator(".frame.stale").count() == 0


def test_sliders_keys_and_menus(page):
    page.focus("[data-name=orbits] input[type=range] >> nth=1")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#p-orbits-1').value > 4")
    page.focus("#p-orbits")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#p-orbits") == "3"
    page.focus(".frame")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_selector("text=class 1, instance 2: sample 8, label 1")
    page.select_option("#p-variant", '"paper"')  # radius belongs to the other variant: it is left out
    page.wait_for_selector("#p-axes")
    assert page.locator("#p-radius").count() == 0
    page.select_option("#recipe", "rcdb-1k")
    wait_for_fingerprint(page, gr.recipe("rcdb-1k").fingerprint)
    assert page.locator("#p-polygons").count() == 1


def test_a_reload_and_a_link_give_the_same_view(page, browser):
    page.fill("#p-orbits-1", "7")
    page.select_option("#augment", "crop")
    page.fill("#p-class", "3")
    page.click("#compare")
    page.fill("#p-seed", "18446744073709551615")  # no number of JavaScript
    wait_for_fingerprint(page, changed(orbits=(2, 7), seed=2**64 - 1).fingerprint, 1)
    page.wait_for_function("() => location.hash.includes('b.set.seed=18446744073709551615')")
    page.wait_for_function("() => document.querySelectorAll('.views img').length === 16")
    pictures = "Array.from(document.querySelectorAll('.pane img'), image => image.src)"
    before, link = page.evaluate(pictures), page.url
    again = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
    again.set_default_timeout(WAIT)
    for other in (page, again):
        other.goto("about:blank")
        opened(other, link)
        other.wait_for_function("() => document.querySelectorAll('.views img').length === 16")
        assert other.evaluate(pictures) == before
        assert fingerprint(other) == changed(orbits=(2, 7)).fingerprint
        assert "seed: 0 → 18446744073709551615" in other.inner_text("#differences")
    again.context.close()


def test_the_sheet_is_drawn_as_one_scrolls(page):
    asked = []
    page.on("request", lambda request: asked.append(request.post_data) if "sheet" in request.url else None)
    page.wait_for_function("() => document.querySelectorAll('.cell img').length > 20")
    page.evaluate("document.querySelector('#scroller').scrollTop = 1e6")
    page.wait_for_function(
        "() => Array.from(document.querySelectorAll('.cell img'), image => image.alt).includes('class 39, instance 5')"
    )
    assert all(len(json.loads(body)["cells"]) <= 24 for body in asked)
    assert page.evaluate("document.querySelectorAll('.cell').length") < 40 * 6
    page.click(".cell:has(img[alt='class 39, instance 5'])")
    page.wait_for_selector("text=class 39, instance 5: sample 239")
    page.focus("#scroller")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("text=class 38, instance 5: sample 233")


def test_the_sheet_stays_with_the_settings_that_were_answered(page):
    """Also where the controls have others since, which the server refuses."""
    asked = []
    page.on("request", lambda request: asked.append(request.post_data) if "sheet" in request.url else None)
    page.fill("#p-orbits-1", "5")
    wait_for_fingerprint(page, changed(orbits=(2, 5)).fingerprint)
    page.wait_for_function("() => document.querySelectorAll('.cell img').length > 20")
    page.wait_for_function("() => !document.querySelector('.cell.old')")
    asked.clear()
    page.fill("#p-orbits-1", "99999")
    page.wait_for_selector("#e-orbits:visible")
    page.select_option("#cell", "64")
    page.evaluate("document.querySelector('#scroller').scrollTop = 1e6")
    page.wait_for_function(
        "() => Array.from(document.querySelectorAll('.cell img'), image => image.alt).includes('class 39, instance 5')"
    )
    assert {json.loads(body)["set"]["orbits"] for body in asked} == {"[2, 5]"}
    assert page.inner_text("#sheet-status") == ""


def test_a_slider_that_is_dragged_queues_nothing_up(page):
    """A hundred changes at once: the first is drawn, the last is drawn, and hardly any between them."""
    answers = []
    page.on("response", lambda response: answers.append(response.status) if "draw" in response.url else None)
    page.evaluate(
        """for (let i = 1; i <= 100; i++) {
             const field = document.querySelector('#p-orbits-1');
             field.value = String(4 + i);
             field.dispatchEvent(new Event('input', {bubbles: true}));
           }"""
    )
    wait_for_fingerprint(page, changed(orbits=(2, 104)).fingerprint)
    assert 1 <= len(answers) <= 3


@pytest.mark.parametrize(
    ("body", "said"), [("gone wrong", "the server answered 500 Internal Server Error"), ('{"error": "no"}', "no")]
)
def test_an_error_of_the_server_is_said_and_is_no_lost_connection(page, body, said):
    answers = []
    page.route("**/api/draw", lambda route: answers.append(500) or route.fulfill(status=500, body=body))
    page.fill("#p-orbits-1", "5")
    page.wait_for_selector(".frame.stale")
    assert page.inner_text(".frame .refusal") == said
    page.unroute("**/api/draw")
    page.fill("#p-orbits-1", "6")
    wait_for_fingerprint(page, changed(orbits=(2, 6)).fingerprint)
    assert page.locator(".frame.stale").count() == 0
    assert page.inner_text("#connection") == ""
    assert answers == [500]


def test_a_busy_server_is_asked_again_after_a_while(page):
    """uvicorn's own answer to too many connections is a plain text."""
    answers = []

    def busy(route):
        answers.append(page.evaluate("performance.now()"))
        if len(answers) <= 2:
            route.fulfill(status=503, body="Service Unavailable")
        else:
            route.continue_()

    page.route("**/api/draw", busy)
    page.fill("#p-orbits-1", "5")
    page.wait_for_selector(".frame.stale")
    assert page.inner_text(".frame .refusal") == "the server answered 503 Service Unavailable"
    assert page.inner_text("#connection") == ""
    assert len(answers) == 2
    wait_for_fingerprint(page, changed(orbits=(2, 5)).fingerprint)
    assert page.locator(".frame.stale").count() == 0
    assert len(answers) == 3
    assert answers[1] - answers[0] >= 900
    assert answers[2] - answers[1] >= 1900


REFUSALS = [
    ({"status": 500, "body": '{"error": "RuntimeError: out of luck"}'}, "RuntimeError: out of luck"),
    ({"status": 500, "body": "gone wrong"}, "the server answered 500 Internal Server Error"),
    ({"status": 421, "body": '{"error": "ask localhost"}'}, "ask localhost"),
    ({"status": 200, "body": "<html>"}, "the answer is no JSON: another program may be at this address"),
]


@pytest.mark.parametrize(("answer", "said"), REFUSALS)
def test_a_start_that_is_refused_says_why_and_goes_on(browser, server, answer, said):
    context = browser.new_context()
    context.set_default_timeout(WAIT)
    page, seen = context.new_page(), []
    page.add_init_script(
        """window.said = [];
        document.addEventListener("DOMContentLoaded", () => new MutationObserver(
          () => window.said.push(document.querySelector("#connection").textContent)
        ).observe(document.querySelector("#connection"), {childList: true}));"""
    )
    page.route("**/api/start", lambda route: seen.append(1) or route.fulfill(**answer))
    page.goto(server.address)
    page.wait_for_selector(f"#connection.lost >> text=The page cannot begin: {said}")
    page.wait_for_function("() => window.said.length > 1")  # asked again
    page.unroute("**/api/start")
    page.wait_for_selector(".frame img[src^=data]")
    assert page.inner_text("#connection") == ""
    assert set(page.evaluate("window.said")) == {f"The page cannot begin: {said}", ""}  # never "Disconnected"
    assert len(seen) > 1
    context.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [REFUSALS[3], ({"status": 403, "body": '{"error": "its own page alone"}'}, "its own page alone")],
)
def test_what_a_server_refuses_twice_is_said(page, answer, said):
    """Not as a lost connection that is never found again: a proxy may ask for a log-in, or change the header Host."""
    answers = []
    page.route("**/api/draw", lambda route: answers.append(1) or route.fulfill(**answer))
    page.fill("#p-orbits-1", "5")
    page.wait_for_selector(f".frame .refusal >> text={said}")
    page.wait_for_function("() => document.querySelector('#connection').textContent === ''")
    assert len(answers) == 2
    page.unroute("**/api/draw")
    page.fill("#p-orbits-1", "6")
    wait_for_fingerprint(page, changed(orbits=(2, 6)).fingerprint)
    assert page.locator(".frame.stale").count() == 0


def test_an_error_of_the_sheet_is_said(page):
    page.route("**/api/sheet", lambda route: route.fulfill(status=500, body='{"error": "KeyError: 3"}'))
    page.fill("#p-orbits-1", "5")
    page.wait_for_selector("#sheet-status >> text=KeyError: 3")
    page.unroute("**/api/sheet")
    page.fill("#p-orbits-1", "6")
    page.wait_for_function("() => document.querySelector('#sheet-status').textContent === ''")


def test_a_server_that_is_there_and_refuses_is_told_from_one_that_is_gone(page):
    page.route("**/api/alive", lambda route: route.fulfill(status=502, body="no"))
    page.route("**/api/draw", lambda route: route.abort())
    page.fill("#p-orbits-1", "5")
    page.wait_for_selector("#connection >> text=Waiting for the server: the server answered 502 Bad Gateway")
    page.unroute("**/api/draw")
    page.unroute("**/api/alive")
    wait_for_fingerprint(page, changed(orbits=(2, 5)).fingerprint)
    page.wait_for_function("() => document.querySelector('#connection').textContent === ''")


def test_elsewhere_the_page_needs_the_token_and_says_so_when_there_is_another_one(tmp_path, browser):
    path = tmp_path / "atoms.json"
    path.write_text(ATOMS.to_json())
    server = Server(path, 0, "--host", "0.0.0.0")
    try:
        context = browser.new_context()
        context.set_default_timeout(WAIT)
        page, home = context.new_page(), f"http://127.0.0.1:{server.port}/"
        page.goto(home)
        assert "the address needs the token that gpurender explore printed" in page.inner_text("body")
        opened(page, f"{home}?{urlsplit(server.address).query}")
        assert page.url.startswith(home)
        assert "token" not in page.url  # nor in a link that is copied
        server.kill()
        server = Server(path, server.port, "--host", "0.0.0.0")
        page.fill("#p-orbits-1", "9")
        page.wait_for_selector("#connection >> text=The server was started anew with another token: open the address")
        other = context.new_page()
        opened(other, f"{home}?{urlsplit(server.address).query}")
        wait_for_fingerprint(page, changed(orbits=(2, 9)).fingerprint)  # the cookie is this page's, too
        assert page.inner_text("#connection") == ""
        context.close()
    finally:
        server.kill()


def test_narrow_and_dark(browser, server):
    for width, scheme in ((360, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 780}, color_scheme=scheme, has_touch=True)
        context.set_default_timeout(WAIT)
        page = context.new_page()
        opened(page, server.address)
        page.fill("#p-orbits-1", "0")
        page.wait_for_selector("#e-orbits:visible")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        grounds = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, grounds.removeprefix("rgb(").rstrip(")").split(","))) > 384) == (scheme == "light")
        top = page.evaluate("document.querySelector('.frame').getBoundingClientRect().top")
        assert top >= 0  # the picture stays on screen while a control far below is used
        context.close()


def test_every_control_has_a_name(page):
    names = page.evaluate(
        """Array.from(document.querySelectorAll('#controls :is(input, select, textarea), button'), each =>
             (each.getAttribute('aria-label') || each.labels?.[0]?.innerText || each.innerText ||
              each.querySelector('img')?.alt || (each.matches('.cell') && 'cell') || '').trim())"""
    )
    assert len(names) > 40
    assert all(names)


def test_a_killed_server_comes_back_without_a_reload_and_two_tabs_go_on(tmp_path, browser):
    path = tmp_path / "atoms.json"
    path.write_text(ATOMS.to_json())
    server = Server(path)
    try:
        context = browser.new_context(viewport={"width": 1300, "height": 900})
        context.set_default_timeout(WAIT)
        tabs = [context.new_page() for _ in range(2)]
        for tab in tabs:
            opened(tab, server.address)
        for number, tab in enumerate(tabs):  # at once, and each its own
            tab.fill("#p-orbits-1", str(10 + number))
        for number, tab in enumerate(tabs):
            wait_for_fingerprint(tab, changed(orbits=(2, 10 + number)).fingerprint)
        server.kill()
        tabs[0].fill("#p-orbits-1", "20")
        for tab in tabs:  # also the one that wants nothing
            tab.wait_for_selector("text=Disconnected: waiting for the server")
        assert tabs[0].locator(".frame img[src^=data]").count() == 1
        server = Server(path, server.port)
        wait_for_fingerprint(tabs[0], changed(orbits=(2, 20)).fingerprint)
        for tab in tabs:
            tab.wait_for_function("() => document.querySelector('#connection').textContent === ''")
        tabs[1].fill("#p-orbits-1", "21")
        wait_for_fingerprint(tabs[1], changed(orbits=(2, 21)).fingerprint)
        context.close()
    finally:
        server.kill()


def test_every_base_of_the_menu_opens(page):
    """Each with a picture or a sentence, and controls of its own."""
    bases = page.evaluate("Array.from(document.querySelector('#recipe').options, option => option.value)")
    assert {"mixture", "schedule", "moire", "singleimage", "fractaldb-1k"} <= set(bases)
    for base in ("mixture", "schedule", "singleimage", "moire", "3d-ofdb-1k"):
        page.select_option("#recipe", base)
        wait_for_fingerprint(page, Asked.of(base, {}).recipe.fingerprint)
        assert page.locator("#parameters .control").count() >= 2
