"""The page as Chromium shows it: silent, self-contained, sorted and filtered, its links and its colours.

`make browser` installs what this needs, and runs it.
"""

import shutil
from pathlib import Path

import pytest

from lockstep.harness.report import html
from tests.documents import small

playwright = pytest.importorskip(
    "playwright.sync_api",
    reason="no module named playwright; make browser, or pip install 'lockstep-parity[browser]'",
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium; make browser, or apt-get install chromium"
)

WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "parity.html"
    path.write_text(html.render(small()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(chromium, file):
    """Opens the page; what it said on the console and what it asked for must be nothing in the end."""
    said, asked, contexts = [], [], []

    def opened(fragment="", **options):
        context = chromium.new_context(**{"viewport": WIDE, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} <= {file}


def column(page, table, number):
    return page.eval_on_selector_all(
        f"{table} tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{number}].textContent.trim())"
    )


def test_a_page_is_silent_and_asks_for_nothing(opened):
    page = opened()
    assert page.title() == "Parity: DIFFER"
    assert page.locator("main").is_visible()


def test_a_page_that_does_speak_and_ask_is_caught(chromium, tmp_path):
    """The check above can fail."""
    said, asked = [], []
    (tmp_path / "loud.html").write_text('<img src="http://localhost:1/x.png"><script>nothing()</script>')
    page = chromium.new_page()
    page.on("pageerror", lambda error: said.append(error))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "loud.html").as_uri())
    assert len(said) == 1
    assert "http://localhost:1/x.png" in asked
    page.close()


def test_tables_sort_by_number_and_by_word_by_mouse_and_by_keyboard(opened):
    page = opened()
    table = "#case-1 [aria-label=Parameters]"
    before = [float(one) for one in column(page, table, 5)]
    head = page.locator(f"{table} thead th").last
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(one) for one in column(page, table, 5)] == sorted(before)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(one) for one in column(page, table, 5)] == sorted(before, reverse=True)
    page.locator(f"{table} thead th button").first.click()
    assert head.get_attribute("aria-sort") is None
    names = column(page, table, 0)
    assert names == sorted(names)


def test_a_filter_leaves_the_rows_that_hold_every_word(opened):
    page = opened()
    census = "#case-1 [aria-label=Census]"
    label = page.locator("#case-1 label.find").first
    whole = column(page, census, 0)
    label.locator("input").fill("ported DIFFER")
    left = column(page, census, 0)
    assert 0 < len(left) < len(whole)
    assert all("ported" in one for one in left)
    assert label.locator("[role=status]").inner_text() == f"{len(left)} of {len(whole)} rows"
    label.locator("input").fill("")
    assert column(page, census, 0) == whole


def test_links_lead_where_they_say(opened):
    page = opened()
    targets = page.eval_on_selector_all(
        "a[href^='#']", "links => links.map(link => link.getAttribute('href'))"
    )
    assert len(targets) > 15
    for target in dict.fromkeys(targets):
        page.locator(f"a[href='{target}']").first.evaluate("link => link.click()")
        playwright.expect(page.locator(f"[id='{target[1:]}']")).to_be_in_viewport()


@pytest.mark.parametrize("script", [True, False])
def test_a_link_from_outside_opens_the_case_that_it_is_in(opened, script):
    page = opened("#case-2-census", java_script_enabled=script)
    playwright.expect(page.locator("#case-2-census")).to_be_in_viewport()


def test_without_javascript_everything_is_there(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("figure svg").count() == 10
    assert page.locator("thead button, label.find, .tools:visible").count() == 0
    page.locator("#case-2 summary").click()
    playwright.expect(page.locator("#case-2 table").first).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_and_the_scheme_is_the_readers(opened, size, scheme):
    page = opened(viewport=size, color_scheme=scheme)
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert (red > 200) == (scheme == "light")


def test_every_table_and_control_is_reached_by_keyboard(opened):
    page = opened()
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.tagName"
            )
        )
        if "Environment" in reached:
            break
    assert {
        "Problems and backends",
        "Census",
        "Stage ledger",
        "Environment",
        "SUMMARY",
        "BUTTON",
        "INPUT",
        "A",
    } <= reached


def test_a_pointer_shows_the_values_of_a_plot(opened):
    page = opened()
    drawing = page.locator("#case-1 figure svg").first
    box = drawing.bounding_box()
    drawing.hover(position={"x": box["width"] * 0.2, "y": box["height"] / 2})
    content = page.locator("#case-1 figure .tip").first.inner_text()
    assert content == "0: numpy ≈ 0.398, torch ≈ 0.398, ported ≈ 0.398"


def test_all_of_it_is_printed(opened):
    page = opened()
    shut = page.locator("details:not([open])")
    assert shut.count() == 1
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shut.count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shut.count() == 1
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()


def test_the_browser_is_given_the_kept_example_too(chromium):
    page = chromium.new_page()
    page.goto((Path(__file__).parents[2] / "docs" / "example" / "parity.html").as_uri())
    assert page.locator("h1").inner_text() == "Parity report"
    page.close()
