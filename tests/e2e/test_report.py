"""The report as a reader sees it: written by a run, opened in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from rapo_ray.report.page import write_report
from tests import report_browser as look
from tests.e2e.conftest import FinishedRun, train
from tests.report_data import write_evaluation, write_everything, write_run

pytestmark = pytest.mark.e2e

OF_A_RUN = {
    "Harm against needless refusals", "Rewards over the rounds", "Cases by level over the rounds",
    "Trace length against level", "Time of a round", "The update", "The mechanism over the rounds",
    "Decisions over the rounds",
}  # fmt: skip
OF_EVERYTHING = {
    "Canaries", "Second judge", "Refusal against the depth of a forced trace", "Swapped traces of the study",
    "Answers after swapped traces", "Traces over the rounds",
}  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium: apt-get install chromium")
    with look.browser(executable) as started:
        yield started


def check_everything(chromium: Browser, path: Path, charts: set[str], pictures: Path) -> None:
    with look.opened(chromium, path) as one:
        look.check_contents(one)
        look.check_charts(one, charts)
        look.check_tables(one)
        look.check_fits(one, look.WIDE)
        look.check_folding(one)
        look.check_filters(one)
        look.check_picture(one, pictures / "wide.png")
        look.check_quiet(one)
    with look.opened(chromium, path, look.PHONE, "dark") as one:
        look.check_fits(one, look.PHONE)
        look.check_charts(one, charts)
        look.check_dark(one)
        look.check_picture(one, pictures / "phone.png")
        look.check_quiet(one)


def test_a_run_ends_with_a_report_that_shows_it(finished: FinishedRun, chromium: Browser, tmp_path: Path) -> None:
    check_everything(chromium, finished.folder / "report.html", OF_A_RUN, tmp_path)


def test_everything_a_report_can_hold(chromium: Browser, tmp_path: Path) -> None:
    path = write_report(write_everything(tmp_path))
    check_everything(chromium, path, OF_A_RUN | OF_EVERYTHING, tmp_path)


def test_an_evaluation_alone(chromium: Browser, tmp_path: Path) -> None:
    write_evaluation(tmp_path, 8, asr=0.9)
    check_everything(chromium, write_report(tmp_path), {"Harm against needless refusals"}, tmp_path)


def test_a_finished_run_that_is_shown_again_gets_the_report_that_it_lacks(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 2)
    for announced in (True, False):
        done = train(folder / "config.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is finished already" in done.stdout
        assert ("report: " in done.stdout) is announced
        assert (folder / "report.html").is_file()
