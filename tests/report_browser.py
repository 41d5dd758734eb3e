"""Checks of a report page as a reader sees it in a real browser."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = (
    "--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
WIDE, PHONE = 1200, 390  # pixels
PAGE = 20  # samples shown at once


@dataclass(frozen=True)
class Opened:
    """An open page, with its messages (console, errors, dialogs) and the URLs that it has requested."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Samples in the page's data."""
        rows: list[dict[str, Any]] = json.loads(self.page.locator("#data").text_content() or "")
        return rows


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    """Start headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int = WIDE, scheme: Any = "light") -> Iterator[Opened]:
    """Open a file in a fresh browser context."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        one = Opened(page)
        page.on("console", lambda message: one.messages.append(message.text))
        page.on("pageerror", lambda error: one.messages.append(str(error)))
        page.on("dialog", lambda dialog: (one.messages.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: one.requests.append(request.url))
        page.goto(path.resolve().as_uri())
        yield one
    finally:
        context.close()


def check_quiet(one: Opened) -> None:
    """Assert that no script complained, no text was executed, and only the file was requested (its icon is data)."""
    assert one.messages == []
    assert [url for url in one.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in one.requests) == 1


def check_charts(one: Opened, titles: set[str]) -> None:
    """Assert that exactly these charts are present, labelled, and large enough to read."""
    assert {title.rstrip(".") for title in one.page.locator("figure.chart figcaption b").all_inner_texts()} == titles
    charts = one.page.locator("figure.chart svg[role=img]").all()
    assert len(charts) == len(titles)
    for chart in charts:
        box = chart.bounding_box()
        assert box is not None and box["width"] > 300 and box["height"] > 100
        assert chart.get_attribute("aria-label")
        sizes = chart.locator("path").evaluate_all("all => all.map(one => one.getBoundingClientRect())")
        assert any(size["width"] > 0 and size["height"] > 0 for size in sizes)


def check_tables(one: Opened) -> None:
    """Assert that each table has rows, and right-aligned figures in its numeric columns."""
    tables = one.page.locator("table").all()
    assert tables
    for table in tables:
        assert any(re.search(r"\d", text) for text in table.locator("td.n").all_text_contents()), table.text_content()
        alignments = table.locator("td.n").evaluate_all("all => all.map(one => getComputedStyle(one).textAlign)")
        assert set(alignments) == {"right"}


def check_shown(one: Opened, expected: list[str]) -> None:
    """Assert that exactly these samples are listed, by id and in order: their count, and the first two pages."""
    ids = one.page.locator("#rows .head code")
    assert one.page.locator("#count").inner_text() == f"1-{min(PAGE, len(expected))} of {len(expected)}"
    assert ids.all_text_contents() == expected[:PAGE]
    assert one.page.locator("#back").is_disabled()
    assert one.page.locator("#next").is_disabled() is (len(expected) <= PAGE)
    if len(expected) > PAGE:
        one.page.locator("#next").click()
        assert ids.all_text_contents() == expected[PAGE : 2 * PAGE]


def check_filters(one: Opened) -> None:
    """Assert that each filter leaves exactly its rows, and that clearing it restores all of them."""
    rows, page = one.rows, one.page
    for key in ("suite", "stage", "outcome", "level"):
        value = rows[-1][key]
        page.locator(f"select[data-key={key}]").select_option(f"is:{value}")
        check_shown(one, [row["id"] for row in rows if row[key] == value])
        page.locator(f"select[data-key={key}]").select_option("all:")
    outcomes = {row["outcome"] for row in rows}
    assert page.locator("select[data-key=outcome] option").count() == len(outcomes) + 1
    for outcome in outcomes:
        page.locator("select[data-key=outcome]").select_option(f"is:{outcome}")
        assert set(page.locator("#rows .outcome").all_text_contents()) == {outcome.replace("_", " ")}
    page.locator("select[data-key=outcome]").select_option("all:")
    query = rows[-1]["id"].upper()
    page.locator("#search").fill(query)
    check_shown(one, [row["id"] for row in rows if query.lower() in _text(row)])
    page.locator("#search").fill("\x01 no such text")
    assert page.locator("#count").inner_text() == "no sample fits"
    page.locator("#search").fill("")
    check_shown(one, [row["id"] for row in rows])


def _text(row: dict[str, Any]) -> str:
    return "\n".join([row["id"], *(text for _, text in row["texts"])]).lower()


def check_folding(one: Opened) -> None:
    """Assert that no page shows a harmful prompt until its fold is opened, which then shows all of its texts."""
    rows, page = one.rows, one.page
    harmful = {row["texts"][0][1] for row in rows if row["fold"]}
    assert harmful
    page.locator("#search").fill(next(iter(harmful)))  # a search match does not open the fold
    _none_shown(one, harmful)
    page.locator("#search").fill("")
    while not page.locator("#next").is_disabled():
        _none_shown(one, harmful)
        page.evaluate("document.getElementById('next').click()")
    _none_shown(one, harmful)
    first = next(row for row in rows if row["fold"])
    page.locator("select[data-key=stage]").select_option(f"is:{first['stage']}")
    page.locator("#search").fill(first["id"])
    fold = page.locator("#rows details.fold").first
    assert fold.locator("pre").count() == 0
    fold.locator("summary").click()
    texts = fold.locator("pre")
    texts.first.wait_for(state="visible", timeout=5000)
    expected = [text if text else "(empty)" for _, text in first["texts"]]
    assert [text.replace("\x00", "") for text in texts.all_text_contents()] == [
        text.replace("\x00", "") for text in expected
    ]
    assert first["texts"][0][1] in page.locator("#rows").inner_text()
    page.locator("select[data-key=stage]").select_option("all:")
    page.locator("#search").fill("")


def _none_shown(one: Opened, harmful: set[str]) -> None:
    assert one.page.locator("details.fold[open]").count() == 0
    body = one.page.locator("body").inner_text()
    assert [text for text in harmful if text in body] == []


def check_contents(one: Opened) -> None:
    """Assert that each entry of the table of contents links to an existing section."""
    links = one.page.locator("nav a").all()
    assert len(links) > 2
    for link in links:
        assert one.page.locator(link.get_attribute("href") or "").count() == 1


def check_fits(one: Opened, width: int) -> None:
    """Assert that the page never scrolls sideways; wide tables and charts scroll within themselves."""
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width


def check_picture(one: Opened, path: Path) -> None:
    """Write a screenshot of the whole page and assert that it is not blank."""
    import numpy as np
    from PIL import Image

    one.page.screenshot(path=path, full_page=True)
    with Image.open(path) as image:
        width, height = image.size
        pixels = np.asarray(image.convert("L"), dtype=np.float64)
    assert width == (one.page.viewport_size or {})["width"]
    assert height > 900
    assert pixels.std() > 5
    assert len(np.unique(pixels)) > 50


def check_dark(one: Opened) -> None:
    """Assert that in dark mode the page is dark while charts keep a light background."""

    def colour(selector: str) -> int:
        shade = one.page.locator(selector).first.evaluate("one => getComputedStyle(one).backgroundColor")
        return sum(map(int, re.findall(r"\d+", shade)[:3]))

    assert colour("body") < 150 < 700 < colour("figure.chart")
