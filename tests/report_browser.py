"""What a person sees of a report in a real browser, as checks over an open page."""

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
    """A page, and what it said and asked for since it was opened."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The samples in the page's data."""
        rows: list[dict[str, Any]] = json.loads(self.page.locator("#data").text_content() or "")
        return rows


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    """Headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int = WIDE, scheme: Any = "light") -> Iterator[Opened]:
    """A file in a fresh context of the browser."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(path.resolve().as_uri())
        yield found
    finally:
        context.close()


def check_quiet(one: Opened) -> None:
    """No script complained, no text ran, and nothing but the file itself was asked for (its icon is empty data)."""
    assert one.said == []
    assert [url for url in one.asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in one.asked) == 1


def check_charts(one: Opened, titles: set[str]) -> None:
    """Each chart is there, labelled, and drawn at a size at which one can read it."""
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
    """Each table has rows, and figures in its columns for figures."""
    tables = one.page.locator("table").all()
    assert tables
    for table in tables:
        assert any(re.search(r"\d", text) for text in table.locator("td.n").all_text_contents()), table.text_content()
        alignments = table.locator("td.n").evaluate_all("all => all.map(one => getComputedStyle(one).textAlign)")
        assert set(alignments) == {"right"}


def check_shown(one: Opened, expected: list[str]) -> None:
    """Just these samples, by id and in this order: how many, the first page and the second."""
    ids = one.page.locator("#rows .head code")
    assert one.page.locator("#count").inner_text() == f"1-{min(PAGE, len(expected))} of {len(expected)}"
    assert ids.all_text_contents() == expected[:PAGE]
    assert one.page.locator("#back").is_disabled()
    assert one.page.locator("#next").is_disabled() is (len(expected) <= PAGE)
    if len(expected) > PAGE:
        one.page.locator("#next").click()
        assert ids.all_text_contents() == expected[PAGE : 2 * PAGE]


def check_filters(one: Opened) -> None:
    """Each filter leaves exactly the rows that it names, and goes away again."""
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
    sought = rows[-1]["id"].upper()
    page.locator("#search").fill(sought)
    check_shown(one, [row["id"] for row in rows if sought.lower() in _text(row)])
    page.locator("#search").fill("\x01 no such text")
    assert page.locator("#count").inner_text() == "no sample fits"
    page.locator("#search").fill("")
    check_shown(one, [row["id"] for row in rows])


def _text(row: dict[str, Any]) -> str:
    return "\n".join([row["id"], *(text for _, text in row["texts"])]).lower()


def check_folding(one: Opened) -> None:
    """Nothing of a harmful prompt is on any page until its fold is opened; then it is; a harmless one is there."""
    rows, page = one.rows, one.page
    harmful = {row["texts"][0][1] for row in rows if row["fold"]}
    assert harmful
    page.locator("#search").fill(next(iter(harmful)))  # finding it does not open it
    _none_seen(one, harmful)
    page.locator("#search").fill("")
    while not page.locator("#next").is_disabled():
        _none_seen(one, harmful)
        page.evaluate("document.getElementById('next').click()")
    _none_seen(one, harmful)
    first = next(row for row in rows if row["fold"])
    page.locator("select[data-key=stage]").select_option(f"is:{first['stage']}")
    page.locator("#search").fill(first["id"])
    fold = page.locator("#rows details.fold").first
    assert fold.locator("pre").count() == 0
    fold.locator("summary").click()
    texts = fold.locator("pre")
    texts.first.wait_for(state="visible", timeout=5000)
    said = [text if text else "(empty)" for _, text in first["texts"]]
    assert [text.replace("\x00", "") for text in texts.all_text_contents()] == [
        text.replace("\x00", "") for text in said
    ]
    assert first["texts"][0][1] in page.locator("#rows").inner_text()
    page.locator("select[data-key=stage]").select_option("all:")
    page.locator("#search").fill("")


def _none_seen(one: Opened, harmful: set[str]) -> None:
    assert one.page.locator("details.fold[open]").count() == 0
    seen = one.page.locator("body").inner_text()
    assert [text for text in harmful if text in seen] == []


def check_contents(one: Opened) -> None:
    """Each entry of the table of contents leads to a section that is there."""
    links = one.page.locator("nav a").all()
    assert len(links) > 2
    for link in links:
        assert one.page.locator(link.get_attribute("href") or "").count() == 1


def check_fits(one: Opened, width: int) -> None:
    """The page itself never scrolls sideways; wide tables and charts do, within themselves."""
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width


def check_picture(one: Opened, path: Path) -> None:
    """A screenshot of the whole page is written, and is no empty sheet."""
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
    """In dark mode the page is dark and the charts keep a light card."""

    def colour(selector: str) -> int:
        shade = one.page.locator(selector).first.evaluate("one => getComputedStyle(one).backgroundColor")
        return sum(map(int, re.findall(r"\d+", shade)[:3]))

    assert colour("body") < 150 < 700 < colour("figure.chart")
