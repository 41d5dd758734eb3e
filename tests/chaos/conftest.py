"""A run that is disturbed, the same run undisturbed, and the table of what each fault cost."""

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import FAULTS, ROUNDS, Recovered
from tests.e2e.conftest import Cluster, cluster, finished, tiny, tiny_recipe, train, warmed

__all__ = ["cluster", "finished", "tiny", "warmed"]

# Rounds that last for seconds, so that a fault finds its phase.
SETTINGS: dict[str, Any] = {"rounds": ROUNDS, "prompts_per_round": 48, "rollout": {"engines": 2, "max_num_seqs": 96}}


@pytest.fixture(scope="session")
def undisturbed(tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    done = train(tiny_recipe(tiny, out, **SETTINGS, **warmed), joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "tiny"


@pytest.fixture
def recovered(request: pytest.FixtureRequest) -> Recovered:
    """What the test found out about its fault, for the table."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a test of the chaos suite says which fault it is about"
    found = Recovered(mark.args[0])
    request.node.user_properties.append(("recovered", found))
    return found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table: each fault, the tests that hold it, and what was measured."""
    lines: dict[int, list[str]] = {}
    outcomes: dict[int, list[str]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if report.when == "call" or outcome != "passed":
                properties = dict(report.user_properties)
                for number in properties.get("faults", ()):
                    outcomes.setdefault(number, []).append(outcome)
                if found := properties.get("recovered"):
                    lines.setdefault(found.number, []).append(str(found))
    if not outcomes or "chaos" not in terminalreporter.config.option.markexpr:
        return
    terminalreporter.write_sep("=", "faults")
    for number in sorted(outcomes):
        results = outcomes[number]
        held = "held" if set(results) == {"passed"} else "BROKEN"
        measured = "; ".join(lines.get(number, []))
        terminalreporter.write_line(f"{number:>3}  {FAULTS[number]:<58} {held} ({len(results)} tests)  {measured}")
    terminalreporter.write_line(f"{sum(set(r) == {'passed'} for r in outcomes.values())} of {len(FAULTS)} held")
