"""README and the guides say what is so: sizes, paths, verbs, failure lines, and the arguments of every command."""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from rapo_ray.__main__ import COMMANDS
from rapo_ray.config.load import load_config, load_settings, shipped_recipes
from rapo_ray.config.serving import ServeConfig
from tests.docs import LANGUAGES, PAGES, REASONS, ROOT, SHELLS, Block, blocks, commands, spans

pytestmark = pytest.mark.unit

ALL_PAGES = (*PAGES, *(ROOT / name for name in ("AGENTS.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")))
EVERY_BLOCK = [block for page in ALL_PAGES for block in blocks(page)]
SCRIPTS = [block for block in EVERY_BLOCK if block.language in SHELLS]
TARGETS = frozenset(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


class Parsed(Exception):
    """Ends a command once its arguments are parsed."""


def parse(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """The arguments as the module's own parser reads them; SystemExit where it refuses them."""
    parsed: list[argparse.Namespace] = []

    def then_stop(method: Callable[..., argparse.Namespace]) -> Callable[..., None]:
        def stop(*given: object) -> None:
            parsed.append(method(*given))
            raise Parsed

        return stop

    with monkeypatch.context() as patched:
        for name in ("parse_args", "parse_intermixed_args"):
            patched.setattr(argparse.ArgumentParser, name, then_stop(getattr(argparse.ArgumentParser, name)))
        patched.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(Parsed):
            import_module(module).main()
    return parsed[0]


def program(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """The module that a command runs, if it is ours, and its arguments."""
    for number, word in enumerate(words):
        if Path(word).name == "rapo" and words[number + 1][0] != "-":
            return COMMANDS[words[number + 1]].module, list(words[number + 2 :])
        if word == "-m" and words[number + 1].startswith("rapo_ray."):
            return COMMANDS[words[number + 1].removeprefix("rapo_ray.")].module, list(words[number + 2 :])
        if word == "-m" and words[number + 1].startswith("benchmarks."):
            return words[number + 1], list(words[number + 2 :])
        if word == "deploy/slurm.sh":
            return "rapo_ray.train", list(words[number + 1 :])
    return None


def check(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a command of ours has a verb, an option or a setting that is not there, or make a target."""
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS, words
        return
    command = program(words)
    if command is None:
        return
    module, arguments = command
    options = parse(module, arguments, monkeypatch)
    overrides = getattr(options, "overrides", [])
    if module == "rapo_ray.serve":
        load_settings(ServeConfig, {"model": "m", "api_keys": "k"}, overrides, "the docs")
    else:
        recipe = getattr(options, "config", None)
        load_config(recipe if recipe in shipped_recipes() else "quickstart", overrides)


def test_readme_is_a_map() -> None:
    assert (ROOT / "README.md").stat().st_size <= 10_240


@pytest.mark.parametrize("block", EVERY_BLOCK, ids=str)
def test_a_block_names_its_language_and_a_known_reason(block: Block) -> None:
    assert block.language in LANGUAGES
    assert block.needs is None or block.needs in REASONS


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_the_arguments_of_a_command_are_accepted(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(block.text):
        check(words, monkeypatch)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_are_accepted(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb alone is a name; with arguments it is a command."""
    for span in spans(page):
        command = re.fullmatch(r"(?:rapo |python -m rapo_ray\.)([a-z]+)(?: .*)?", span)
        if command:
            assert command[1] in COMMANDS, span
        if span.startswith("make ") or (command and not span.endswith(command[1])):
            check(span.split(), monkeypatch)


def test_the_checks_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ("rapo train --recipe quickstart", "python -m rapo_ray.status --nothing", "rapo report"):
        with pytest.raises(SystemExit):
            check(line.split(), monkeypatch)
    with pytest.raises(KeyError):
        check(["rapo", "trian"], monkeypatch)
    with pytest.raises(ValueError, match="unknown key"):
        check(["rapo", "train", "rollout.motors=2"], monkeypatch)
    with pytest.raises(AssertionError):
        check(["make", "everything"], monkeypatch)


def test_readme_has_every_verb_and_every_folder() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| `rapo (\w+) ", text, re.MULTILINE)) == set(COMMANDS)
    folders = {path.parent.name for path in (ROOT / "rapo_ray").glob("*/*") if path.suffix in (".py", ".yaml")}
    assert set(re.findall(r"^  (\w+)/ ", text, re.MULTILINE)) == folders
    assert set(re.findall(r"\]\(docs/([\w-]+)\.md\)", text)) == {path.stem for path in PAGES[1:]} - {"api"}


@cache
def files() -> frozenset[str]:
    """Every file of the repository that a page may name, by its path from the root."""
    tops = ("rapo_ray", "actors", "tests", "benchmarks", "deploy", "docs", "requirements")
    paths = [path for top in tops for path in (ROOT / top).rglob("*") if path.is_file()]
    return frozenset(path.relative_to(ROOT).as_posix() for path in (*paths, *ROOT.glob("*.*")))


def named_files(page: Path) -> Iterator[str]:
    """Files of ours that a page names in code spans, with the test where there is one."""
    for span in spans(page):
        if re.fullmatch(r"[\w./-]+\.(?:py|toml|lock|sh|md|Dockerfile)(?:::\w+)?", span):
            yield span


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    missing = []
    for name in named_files(page):
        path, _, test = name.partition("::")
        tail = path.removeprefix("../")
        matches = [file for file in files() if file == tail or file.endswith(f"/{tail}")]
        if not any(not test or f"def {test}(" in (ROOT / file).read_text("utf-8") for file in matches):
            missing.append(name)
    assert missing == []


@cache
def texts() -> tuple[str, ...]:
    """Every string in the packages, those parts of f-strings that are text among them."""
    nodes = (
        node
        for package in ("rapo_ray", "actors")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )
    return tuple(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_failure_lines_can_be_printed() -> None:
    table = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("| the line contains |")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert len(rows) > 20
    for row in rows:
        for line in re.findall(r"`([^`]+)`", row.split("|")[1]):
            for part in re.split(r"\.\.\.|\b[NMX]\b|GPU|=", line):
                assert any(part.strip() in text for text in texts()), line


@pytest.mark.parametrize("block", [block for block in EVERY_BLOCK if block.language == "python"], ids=str)
def test_python_in_the_guides_imports_what_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rapo_ray"):
            module = import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
