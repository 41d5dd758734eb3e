"""The `rapo` command: one table of verbs, handed over with their arguments, and nothing heavy imported to list them."""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import import_module

import pytest

from rapo_ray.__main__ import COMMANDS, main
from rapo_ray.errors import finish
from tests.unit.test_imports import ROOT, heavy_after
from tests.unit.test_layers import COMMANDS as COMMAND_MODULES

pytestmark = pytest.mark.unit

VERBS = (
    "train",
    "judge",
    "evaluate",
    "intervene",
    "preferences",
    "serve",
    "promote",
    "simulate",
    "status",
    "report",
    "suite",
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_every_command_has_a_verb() -> None:
    assert set(COMMANDS) == set(VERBS) == COMMAND_MODULES - {"__main__"} | {"report", "suite"}


def test_help_lists_each_verb_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb, command in COMMANDS.items():
        assert lines.count(f"  {verb:<13}{command.summary}") == 2
        assert len(command.summary) < 72


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_and_its_module_show_the_same_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    by_verb = capsys.readouterr().out
    with pytest.raises(SystemExit):
        import_module(COMMANDS[verb].module).main(["--help"])
    by_module = capsys.readouterr().out
    assert by_verb.startswith(f"usage: rapo {verb} ")
    assert by_module.startswith(f"usage: python -m {COMMANDS[verb].module.removesuffix('.__main__')} ")
    assert by_verb.split("\n\n", 1)[1] == by_module.split("\n\n", 1)[1]  # all but the usage


def test_arguments_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Sequence[str], str]] = []
    monkeypatch.setattr("rapo_ray.train.main", lambda rest, program: calls.append((rest, program)) or 7)
    assert main(["train", "--config", "quickstart", "rounds=1"]) == 7
    assert calls == [(["--config", "quickstart", "rounds=1"], "rapo train")]


def test_an_unknown_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "--config", "quickstart"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"error: unknown verb `trian`: give one of {', '.join(COMMANDS)}\n"


def test_both_spellings_run_as_programs() -> None:
    (verb,) = [line for line in python("-m", "rapo_ray", "--help").stdout.splitlines() if "train a model" in line]
    assert verb.split()[0] == "train"
    for command in (("-m", "rapo_ray", "train"), ("-m", "rapo_ray.train")):
        done = python(*command, "--config", "quickstart", "--dry-run", "name=mine")
        assert done.returncode == 0, done.stderr
        assert "name: mine" in done.stdout
    assert python("-m", "rapo_ray", "nothing").returncode == 2


def test_the_console_script_is_this_function() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"rapo": "rapo_ray.__main__:main"}


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    arguments = [*filter(None, [verb]), "--help"]
    code = (
        f"from rapo_ray.__main__ import main\ntry:\n    assert not main({arguments})\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'matplotlib', 'jinja2', 'pyarrow', 'pydantic', 'rich'} & set(sys.modules)"
    )
    assert heavy_after(code) == set()


def test_a_package_that_is_not_installed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise ModuleNotFoundError("No module named 'ray'", name="ray.util")

    assert finish(body, debug=False) == 1
    assert capsys.readouterr().err == (
        "error: the package `ray` is not installed: install rapo-ray with its extra `cpu` or `gpu`\n"
    )
    assert finish(body, debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_module_of_ours_that_is_missing_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise ModuleNotFoundError("No module named 'rapo_ray.gone'", name="rapo_ray.gone")

    assert finish(body, debug=False) == 1
    assert "Traceback" in capsys.readouterr().err
