"""The site in a browser: `make docs-test`.

Every page is reached by clicks, complains of nothing on the console, and asks no other address.
"""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import adamx

SITE = Path(__file__).parents[1] / "build" / "site"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

if CHROMIUM is None:
    pytest.skip("no browser: install Debian's chromium, or set CHROMIUM", allow_module_level=True)
if not SITE.exists():
    pytest.skip("no site: make docs", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make docs-test")

PAGES = sorted(str(path.parent.relative_to(SITE)) for path in SITE.rglob("index.html"))


class Quiet(SimpleHTTPRequestHandler):
    """Serves the site."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def context(address):
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
        browser.close()


@pytest.fixture
def page(context, address):
    """A page of the site that may not complain; what it still loads when a click leads on is no complaint."""
    page = context.new_page()
    complaints = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda asked: None if "ABORTED" in asked.failure else complaints.append(asked.url))
    page.on("request", lambda request: None if request.url.startswith(address) else complaints.append(request.url))
    yield page
    page.close()
    assert complaints == []


def settled(page):
    """Wait for the formulas of a page; as many as there are."""
    formulas = page.locator(".arithmatex")
    if n := formulas.count():
        page.wait_for_function("n => document.querySelectorAll('.arithmatex > mjx-container > svg').length == n", arg=n)
        assert page.locator("[data-mjx-error], mjx-merror").count() == 0
        assert min(formulas.nth(i).bounding_box()["height"] for i in range(min(n, 3))) > 5
    return n


@pytest.mark.parametrize("place", PAGES)
def test_a_page_draws_its_formulas_and_fits_a_telephone(page, place):
    page.goto(f"/{place}/")
    settled(page)
    assert page.locator("h1").count() == 1
    page.set_viewport_size({"width": 390, "height": 850})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_public_name_is_in_the_reference():
    pages = "".join(path.read_text(encoding="utf-8") for path in (SITE / "reference").rglob("index.html"))
    assert [name for name in adamx.__all__ if f'id="adamx.{name}"' not in pages] == []


def test_clicks_lead_through_every_page(page):
    page.goto("/")
    seen = [page.url]
    while (link := page.locator(".md-footer__link--next")).count():
        link.click()
        page.wait_for_url(lambda url: url != seen[-1])
        seen.append(page.url)
    assert len(seen) == len({*seen}) == len(PAGES)


def test_tabs_lead_to_their_sections(page):
    page.goto("/")
    for i in range(page.locator(".md-tabs__link").count()):
        tab = page.locator(".md-tabs__link").nth(i)
        name = tab.inner_text().strip()
        tab.click()
        page.wait_for_load_state()
        assert page.locator(".md-tabs__item--active").inner_text().strip() == name


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("adabelief", "/reference/optimizers/adabelief/"),
        ("state_shardings", "/reference/many_devices/"),
        ("stochastic rounding", "/memory/"),
    ],
)
def test_search_finds(page, words, place):
    page.goto("/training/")
    page.locator(".md-search__input").click()
    page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for()  # the index is there
    page.locator(".md-search__input").press_sequentially(words)
    found = page.locator(".md-search-result__link")
    found.first.wait_for()
    links = [found.nth(i).get_attribute("href") for i in range(min(12, found.count()))]
    assert any(place in link for link in links), links
    found.first.click()
    page.wait_for_load_state()
    assert not page.url.endswith("/training/")


def test_a_rules_page_has_its_equations_arguments_and_sources(page):
    page.goto("/reference/optimizers/adam/")
    assert settled(page) > 10
    assert page.locator("div.arithmatex").first.is_visible()
    page.get_by_role("link", name="arXiv:1412.6980").first.wait_for()
    page.locator("details.mkdocstrings-source summary").first.click()
    assert page.locator("details.mkdocstrings-source pre").first.is_visible()


def test_light_and_dark(page):
    page.goto("/")
    schemes = set()
    for _ in range(3):
        schemes.add(page.locator("body").get_attribute("data-md-color-scheme"))
        page.locator("form[data-md-component=palette] label:not([hidden])").click()
    assert schemes == {"default", "slate"}


def test_a_telephone_opens_the_drawer(page):
    page.set_viewport_size({"width": 390, "height": 850})
    page.goto("/choosing/")
    page.locator("label.md-header__button[for=__drawer]").click()
    page.locator(".md-nav--primary").get_by_text("Reference").first.wait_for()


def test_what_is_copied_was_typed(page):
    page.goto("/quickstart/")
    code = page.locator("code", has_text=">>>").first
    code.evaluate("code => code.setAttribute('data-md-copying', '')")
    assert ">>>" not in code.inner_text() and "import adamx" in code.inner_text()
