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


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


BREAD = {"prompt": "How do I bake bread?", "harmful": False, "level": 1}
GOOD = "<think>\nA harmless question.\n</think>\n\nMix flour, water, salt and yeast, wait, and bake it for an hour."
BAD = "<think>\nA harmless question.\n</think>\n\nI can't help with that."
OTHER = {**BREAD, "id": "b", "completion": GOOD.replace("hour", "day")}  # stays
FIRST = {**BREAD, "id": "a", "completion": GOOD}
CHANGES = [
    ([FIRST | {"completion": BAD}, OTHER], []),
    ([FIRST | {"level": 3}, OTHER], []),
    ([FIRST | {"harmful": True}, OTHER], []),
    ([FIRST | {"prompt": "Bread?"}, OTHER], []),
    ([FIRST], ["judge.consistency=false"]),
    ([FIRST], ["model.thinking.open=<t>", "model.thinking.close=</t>"]),
]


@pytest.mark.parametrize(("rows", "settings"), CHANGES)
def test_changed_content_under_the_same_id_is_judged_anew(
    rows: list[dict[str, Any]], settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "c.jsonl", [FIRST, OTHER])
    output = tmp_path / "v.jsonl"
    assert main(["--input", str(path), "--output", str(output)]) == 0
    write(path, rows)
    fresh = tmp_path / "fresh.jsonl"
    assert main(["--input", str(path), "--output", str(fresh), *settings]) == 0
    capsys.readouterr()
    assert main(["--input", str(path), "--output", str(output), *settings]) == 0
    out = " ".join(capsys.readouterr().out.split())
    unchanged = len(rows) - 1
    assert f"{len(rows)} completions, {unchanged} judged already" in out
    assert "verdicts on other completions, or of another judge, are replaced" in out

    def content(path: Path) -> list[dict[str, Any]]:
        return sorted(({**row, "seconds": 0} for row in verdicts(path)), key=lambda row: str(row["id"]))

    assert content(output) == content(fresh)


def test_an_inserted_row_shifts_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [GOOD, BAD, GOOD.replace("hour", "day")]
    path = write(tmp_path / "c.jsonl", [{**BREAD, "completion": text} for text in texts])  # ids are row numbers
    assert main(["--input", str(path)]) == 0
    write(path, [{**BREAD, "completion": text} for text in (texts[0], BAD.replace("that", "it"), *texts[1:])])
    capsys.readouterr()
    assert main(["--input", str(path)]) == 0
    out = capsys.readouterr().out
    assert "4 completions, 3 judged already" in out and "replaced" not in out
    by_id = {row["id"]: row["general"] for row in verdicts(tmp_path / "c.verdicts.jsonl")}
    assert by_id == {"1": 1, "2": -1, "3": -1, "4": 1}


def test_verdicts_without_a_key_are_made_anew(completions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--input", str(completions)]) == 0
    output = completions.with_suffix(".verdicts.jsonl")
    old = [{name: value for name, value in row.items() if name != "key"} for row in verdicts(output)]
    write(output, old)
    capsys.readouterr()
    assert main(["--input", str(completions)]) == 0
    assert "29 completions, 0 judged already" in capsys.readouterr().out
    assert all(row["key"] for row in verdicts(output)) and len(verdicts(output)) == 29


def test_another_file_is_not_overwritten(completions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("my notes\n")
    assert main(["--input", str(completions), "--output", str(tmp_path / "notes.txt")]) == 1
    assert "is no file of verdicts; give another --output" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "notes.txt").read_text() == "my notes\n"


def test_all_unusable_rows_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = {**BREAD, "completion": GOOD}, {**BREAD, "completion": None}
    path = write(tmp_path / "c.jsonl", [bad, good, good | {"id": "x"}, bad, good | {"harmful": "perhaps"}])
    assert main(["--input", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "row 1: completion is NoneType" in line and "row 4: completion is" in line
    assert "row 5: harmful is 'perhaps'" in line and line.endswith("; fix or remove them")
    write(path, [bad] * 9)
    assert main(["--input", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "row 5" in line and "row 6" not in line and "; ... 9 in all" in line


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
