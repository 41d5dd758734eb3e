"""Rules of all tiers: one tier mark per test, no silent skips in CI, and the folder of shared data."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.chaos.faults import Recovered

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it when it is imported

settings.register_profile("no clock", deadline=None)  # machines are slow at times
settings.load_profile("no clock")

TIERS = frozenset({"unit", "cluster", "e2e", "gpu", "chaos"})
STRICT_TIERS = TIERS - {"gpu"}
ROOT = Path(__file__).resolve().parent.parent
NEEDS_SHARED_DATA = "needs shared data"


def shared_data_folder() -> Path | None:
    """Return the folder of public data that some tests read, or None.

    It is $RAPO_SHARED_DATA, or else shared/data in the repository or beside it.
    """
    named = os.environ.get("RAPO_SHARED_DATA")
    candidates = [Path(named)] if named else [ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    return next((folder for folder in candidates if folder.is_dir()), None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of shared data, or skip the test if there is none."""
    folder = shared_data_folder()
    if folder is None:
        pytest.skip(f"{NEEDS_SHARED_DATA}: set RAPO_SHARED_DATA to its folder")
    return folder


def _in_ci() -> bool:
    return os.environ.get("RAPO_CI") == "1"


def _tiers(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers() if mark.name in TIERS}


@pytest.hookimpl(tryfirst=True)  # before -m deselects tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wrong = [f"{item.nodeid} has {sorted(_tiers(item)) or 'none'}" for item in items if len(_tiers(item)) != 1]
    if wrong:
        raise pytest.UsageError(f"each test carries exactly one of the marks {sorted(TIERS)}: " + "; ".join(wrong[:10]))
    for item in items:
        if faults := [mark.args[0] for mark in item.iter_markers("fault")]:
            item.user_properties.append(("faults", faults))


def _skip_reason(longrepr: object) -> str:
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _excused(reason: str) -> bool:
    return reason.startswith(NEEDS_SHARED_DATA) and shared_data_folder() is None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _in_ci() and report.skipped and not hasattr(report, "wasxfail") and _tiers(item) & STRICT_TIERS:
        reason = _skip_reason(report.longrepr)
        if not _excused(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, which counts as a failure in CI: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    in_gpu_tier = (ROOT / "tests" / "gpu") in [collector.path, *collector.path.parents]
    if _in_ci() and report.outcome == "skipped" and not in_gpu_tier:
        reason = _skip_reason(report.longrepr)
        if not _excused(reason):
            report.outcome = "failed"
            report.longrepr = f"a whole file was skipped, which counts as a failure in CI: {reason}"
    return report


@pytest.fixture
def recovered(request: pytest.FixtureRequest) -> "Recovered":
    """Record of what the test measured about its fault, for the table."""
    from tests.chaos.faults import Recovered

    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a test of the chaos suite names its fault by the mark `fault`"
    record = Recovered(mark.args[0])
    request.node.user_properties.append(("recovered", record))
    return record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of faults: the tests that hold each one, and what they measured."""
    from tests.chaos.faults import FAULTS

    lines: dict[int, list[str]] = {}
    outcomes: dict[int, list[str]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call" or outcome != "passed":
                properties = dict(getattr(report, "user_properties", ()))  # a file that failed to load has none
                for number in properties.get("faults", ()):
                    outcomes.setdefault(number, []).append(outcome)
                if record := properties.get("recovered"):
                    lines.setdefault(record.number, []).append(str(record))
    if not outcomes or "chaos" not in terminalreporter.config.option.markexpr:
        return
    terminalreporter.write_sep("=", "faults")
    for number in sorted(outcomes):
        results = outcomes[number]
        held = "held" if set(results) == {"passed"} else "BROKEN"
        measured = "; ".join(lines.get(number, []))
        terminalreporter.write_line(f"{number:>3}  {FAULTS[number]:<58} {held} ({len(results)} tests)  {measured}")
    terminalreporter.write_line(f"{sum(set(r) == {'passed'} for r in outcomes.values())} of {len(FAULTS)} held")
