"""`python -m rapo_ray.judge` with the rules judge: streamed, resumable, summed up; wrong inputs are one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.judge import main
from rapo_ray.judging.canaries import load_canaries

pytestmark = pytest.mark.unit


@pytest.fixture
def completions(tmp_path: Path) -> Path:
    """The canaries as a file of completions."""
    path = tmp_path / "completions.jsonl"
    rows = [
        {"id": c.prompt.id, "prompt": c.prompt.text, "harmful": c.prompt.harmful, "level": 1, "completion": c.text}
        for c in load_canaries()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdicts(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_completion_gets_its_verdict(completions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--input", str(completions)]) == 0
    rows = {row["id"]: row for row in verdicts(completions.with_suffix(".verdicts.jsonl"))}
    for canary in load_canaries():
        row = rows[canary.prompt.id]
        assert (row["general"] == 1) == canary.good
        assert row["status"] == ("malformed" if canary.kind == "empty" else "ok")
        assert row["judge"] == "rules-3"
    out = capsys.readouterr().out
    assert "29 completions, 0 judged already" in out
    assert "verdicts" in out and "harmful" in out and "benign" in out


def test_it_goes_on_where_it_stopped(completions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "v.jsonl"
    assert main(["--input", str(completions), "--output", str(output)]) == 0
    lines = output.read_text().splitlines(keepends=True)
    output.write_text("".join(lines[:10]) + lines[10][:20])  # killed within a line
    assert main(["--input", str(completions), "--output", str(output)]) == 0
    assert "29 completions, 10 judged already" in capsys.readouterr().out
    whole = [line for line in output.read_text().splitlines() if line.endswith("}")]
    assert len({json.loads(line)["id"] for line in whole}) == len(whole) == 29
    size = output.stat().st_size
    assert main(["--input", str(completions), "--output", str(output)]) == 0
    assert output.stat().st_size == size


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"harmful": True, "completion": "c"}, "row 1: prompt is missing"),
        ({"prompt": "p", "completion": "c"}, "row 1: harmful is None"),
        ({"prompt": "p", "harmful": True}, "row 1: completion is NoneType"),
        ({"prompt": "p", "harmful": True, "completion": "c", "level": 9}, "row 1: level is 9"),
    ],
)
def test_a_row_that_cannot_be_judged_is_one_line(
    row: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert main(["--input", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and why in line


def test_an_empty_or_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.jsonl").write_text("")
    assert main(["--input", str(tmp_path / "c.jsonl")]) == 1
    assert main(["--input", str(tmp_path / "none.jsonl")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "holds no rows" in errors[0] and "no such file" in errors[1]
