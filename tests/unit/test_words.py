"""The glossary as a rule: identifiers use the field's words, and docstrings begin with a noun or a verb."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rapo_ray", "actors", "tests", "benchmarks")
QUESTION = re.compile(r"(What|How|Where|Who|Whether|Which)\b")
GLOSSARY = """
    Ahead Drawn draw under_way dull teaches hand_out ended lost revive start_over give_weights send_again
    may_send_again _told _new _open Handle Where here write_whole aside Written asked found said kept spread Unit
"""  # words that standard ones have replaced
RETIRED = frozenset(GLOSSARY.split())
ALLOWED = {  # (folder or file, word): why it is the right word there
    ("rapo_ray/report/", "draw"): "charts are drawn",
    ("tests/unit/", "draw"): "Hypothesis draws examples; the report's tests draw a chart",
    ("benchmarks/", "spread"): "a key of results.json: the range of some measurements",
}


def questions(tree: ast.Module) -> list[str]:
    """Docstrings that begin with a question word."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    return [text for text in texts if text and QUESTION.match(text)]


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every name that the code binds or reads, module paths part by part."""
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and not isinstance(node, ast.Constant):
                    yield from ((getattr(node, "lineno", 0), part) for part in name.split("."))


def retired(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and text of every identifier that the glossary replaces."""
    return [(line, name) for line, name in identifiers(tree) if name in RETIRED]


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of ours, parsed, by its path."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def test_docstrings_begin_with_a_noun_or_a_verb(trees: dict[str, ast.Module]) -> None:
    assert [f"{path}: {text}" for path, tree in trees.items() for text in questions(tree)] == []


def test_identifiers_use_the_field_s_words(trees: dict[str, ast.Module]) -> None:
    remaining, used = [], set()
    for path, tree in trees.items():
        for line, name in retired(tree):
            exceptions = {(place, word) for place, word in ALLOWED if path.startswith(place) and word == name}
            used |= exceptions
            remaining += [] if exceptions else [f"{path}:{line}: {name}"]
    assert remaining == []
    assert used == set(ALLOWED), "an exception that nothing needs"


@pytest.mark.parametrize(
    "owner", ["{}", "class A:\n    {}", "def f():\n    {}", "class A:\n    async def f():\n        {}"]
)
@pytest.mark.parametrize("word", ["What", "How", "Where", "Who", "Whether", "Which"])
def test_a_question_word_is_seen_in_every_docstring(owner: str, word: str) -> None:
    assert questions(ast.parse(owner.format(f'"""{word} it is."""'))) == [f"{word} it is."]
    assert questions(ast.parse(owner.format('"""Whole sentences, however they go on."""'))) == []


@pytest.mark.parametrize(
    "code",
    [
        "kept = 1", "print(kept)", "self.kept", "run(kept=1)", "def kept(): ...", "async def kept(): ...",
        "class kept: ...", "def f(kept): ...", "def f(*kept): ...", "lambda kept: 0", "import kept", "import a.kept.b",
        "from kept import a", "from a import kept", "from a import b as kept", "for kept in (): ...",
        "with a as kept: ...", "try: ...\nexcept E as kept: ...", "match a:\n    case kept: ...",
        "match a:\n    case A(kept=1): ...", "def f():\n    global kept", "(kept := 1)", "f'{kept}'",
    ],
)  # fmt: skip
def test_a_retired_word_is_seen_wherever_it_names_something(code: str) -> None:
    assert {name for _, name in retired(ast.parse(code))} == {"kept"}


def test_a_retired_word_in_text_or_within_a_name_is_no_identifier() -> None:
    assert retired(ast.parse("'kept'\nkept_rows = {'kept': 'found'}  # kept")) == []
