"""Further members of the kinds of fault in data files, each with its right value."""

import csv
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rapo_ray.config.sources import Kind, SourceConfig
from rapo_ray.data.files import read_table
from rapo_ray.data.rows import LoadedSource, harmful_of, id_of, label_of, level_of
from rapo_ray.data.sources import load_source
from rapo_ray.errors import ConfigError, DataError
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.pipeline.lengths import fitting
from rapo_ray.serving.keys import read_keys
from tests.make import make_prompt

pytestmark = pytest.mark.unit

Rows = list[dict[str, Any]]


def load(path: Path, kind: Kind = "file", max_bad_share: float = 0.0) -> LoadedSource:
    return load_source("x", SourceConfig(kind=kind, path=path), max_bad_share)


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read_one(path: Path) -> tuple[str, bool]:
    (prompt,) = load(path).prompts
    return prompt.text, prompt.harmful


# --- lines of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_separator_inside_a_cell_ends_no_row(mark: str, tmp_path: Path) -> None:
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t")):
        for end in ("\n", "\r\n", "\r"):
            cells = [("text", "harmful"), (f"one{mark}two", "1"), ("three", "0")]
            (tmp_path / name).write_bytes("".join(delimiter.join(row) + end for row in cells).encode())
            assert [prompt.text for prompt in load(tmp_path / name).prompts] == [f"one{mark}two", "three"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quoted_cell_keeps_its_own_line_ends(end: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(f'text,harmful{end}"one\r\ntwo\nthree",1{end}'.encode())
    assert read_one(tmp_path / "t.csv") == ("one\r\ntwo\nthree", True)


@pytest.mark.parametrize("empty", ["", " ", "\t", " \t "])
def test_lines_of_blanks_are_no_rows(empty: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(f'{empty}\n{{"text": "one", "harmful": true}}\n{empty}\n{empty}', "utf-8")
    assert read_one(tmp_path / "t.jsonl") == ("one", True)


# --- labels by the names of files -------------------------------------------------------------------------------------

LABELS: list[tuple[Kind, str, bool | None]] = [
    ("jailbreakbench", "jbb-behaviors-harmful.csv", True),
    ("jailbreakbench", "JBB_Behaviors_Benign.parquet", False),
    ("jailbreakbench", "harmful_behaviors.jsonl", True),
    ("jailbreakbench", "BENIGN.csv", False),
    ("jailbreakbench", "data/harmful/train-00000-of-00001.parquet", True),
    ("jailbreakbench", "data/behaviors.benign.csv", False),
    ("jailbreakbench", "not-harmful.csv", None),
    ("jailbreakbench", "nonharmful.csv", None),
    ("jailbreakbench", "no-benign.csv", None),
    ("jailbreakbench", "harmful+benign.csv", None),
    ("jailbreakbench", "harmful.vs.benign.csv", None),
    ("jailbreakbench", "judge-comparison.csv", None),
    ("jailbreakbench", "harmfulness.csv", None),
    ("jailbreakbench", "all.csv", None),
    ("or-bench", "or-bench-hard-1k/train-00000-of-00001.parquet", False),
    ("or-bench", "or-bench-toxic/train-00000-of-00001.parquet", True),
    ("or-bench", "or_bench_80k.jsonl", False),
    ("or-bench", "OR-Bench-Toxic.csv", True),
    ("or-bench", "or-bench-nontoxic.csv", None),
    ("or-bench", "or-bench-not-toxic.csv", None),
    ("or-bench", "or-bench-detoxified.csv", None),
    ("or-bench", "toxicity.csv", None),
    ("or-bench", "or-bench-80k-and-toxic.csv", None),
    ("or-bench", "merged/train-00000-of-00001.parquet", None),
]


@pytest.mark.parametrize(("kind", "file", "harmful"), LABELS)
def test_a_label_by_name_is_clear_or_none(kind: Kind, file: str, harmful: bool | None, tmp_path: Path) -> None:
    row = {"prompt": "A goal of ours", "category": "c"}
    if kind == "jailbreakbench":
        row = {"Index": "0", "Goal": "A goal of ours", "Target": "t", "Behavior": "b", "Category": "c", "Source": "s"}
    path = write(tmp_path / file, [row])
    if harmful is None:
        with pytest.raises(DataError, match=r"set data\.sources\.x\.harmful to true or false$"):
            load(path, kind)
    else:
        assert [prompt.harmful for prompt in load(path, kind).prompts] == [harmful]


# --- values of tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NA", "N/A", "n/a", "NULL", "-nan", "NaN ", "#NA", "\u00a0"])
def test_a_level_that_a_table_leaves_out_is_none(value: str) -> None:
    assert level_of({"level": value}) is None


@pytest.mark.parametrize(
    ("value", "harmful"),
    [
        ("1.00", True),
        ("0.00", False),
        (" False\t", False),
        ("TRUE\u00a0", True),
        ("tRuE", True),
        (Decimal("1.0"), True),
    ],
)
def test_labels_of_tables(value: object, harmful: bool) -> None:
    assert harmful_of({"harmful": value}) is harmful


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("007", "007"),
        ("3.10", "3.10"),
        ("1e5", "1e5"),
        ("0x1F", "0x1F"),
        ("a.0", "a.0"),
        (2**53 + 1, str(2**53 + 1)),
        (" 12\t", "12"),
        (-3.0, "-3"),
    ],
)
def test_ids_of_tables(value: object, name: str) -> None:
    assert id_of(1, {"id": value}) == name


COLUMNS: dict[str, Any] = {
    "bytes of numbers": pa.array([2, None], pa.int8()),
    "without sign": pa.array([2, None], pa.uint16()),
    "half a float": pa.array([2.0, None], pa.float32()),
    "decimals": pa.array([Decimal("2.00"), None], pa.decimal128(5, 2)),
    "texts": pa.array(["2", ""]),
    "texts of floats": pa.array(["2.0", "nan"]),
    "categories": pa.array(["2", None]).dictionary_encode(),
    "categories of numbers": pa.array([2, None]).dictionary_encode(),
    "large texts": pa.array(["2", None], pa.large_string()),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_parquet_level_of_any_plain_type(name: str, tmp_path: Path) -> None:
    columns = {"text": ["one", "two"], "harmful": [True, False], "level": COLUMNS[name]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert [prompt.level for prompt in load(tmp_path / "t.parquet").prompts] == [2, None]


TRUTHS: dict[str, Any] = {
    "bytes of numbers": pa.array([1, 0], pa.int8()),
    "floats": pa.array([1.0, 0.0], pa.float32()),
    "texts": pa.array(["True", "False"]),
    "categories": pa.array(["TRUE", "FALSE"]).dictionary_encode(),
    "decimals": pa.array([Decimal(1), Decimal(0)], pa.decimal128(3, 0)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_parquet_label_of_any_plain_type(name: str, tmp_path: Path) -> None:
    texts = pa.array(["one", "two"], pa.large_string()).dictionary_encode()
    pq.write_table(pa.table({"text": texts, "harmful": TRUTHS[name]}), tmp_path / "t.parquet")
    assert [prompt.harmful for prompt in load(tmp_path / "t.parquet").prompts] == [True, False]


# --- parts of a file that nobody asked for ----------------------------------------------------------------------------

UNUSED: dict[str, Any] = {
    "nothing at all": pa.nulls(1),
    "a span of time": pa.array([5], pa.duration("ns")),
    "a half float": pa.array([1.5], pa.float32()).cast(pa.float16()),
    "a zone of no place": pa.array([1], pa.timestamp("us", tz="Mars/Olympus")),
    "a long decimal": pa.array([Decimal(10) ** 50], pa.decimal256(60, 0)),
    "a list of one length": pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    "large lists of structs": pa.array([[{"a": [1]}]], pa.large_list(pa.struct([("a", pa.list_(pa.int64()))]))),
    "large bytes": pa.array([b"\xff" * 9], pa.large_binary()),
    "a time of day": pa.array([1], pa.time64("ns")),
    "categories of dates": pa.array([date(2024, 1, 1)]).dictionary_encode(),
}


@pytest.mark.parametrize("name", UNUSED)
def test_an_unused_parquet_column_costs_nothing(name: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"more": UNUSED[name], "text": ["one"], "harmful": [True]}), tmp_path / "t.parquet")
    assert read_one(tmp_path / "t.parquet") == ("one", True)


def test_unused_parquet_columns_of_one_name_cost_nothing(tmp_path: Path) -> None:
    arrays = [pa.array(["one"]), pa.array([1]), pa.array(["a"]), pa.array([True])]
    pq.write_table(pa.table(arrays, names=["text", "note", "note", "harmful"]), tmp_path / "t.parquet")
    assert read_one(tmp_path / "t.parquet") == ("one", True)


FILES = {
    "a column of row numbers": ("t.csv", ",text,harmful\n0,one,1\n"),
    "a comma at each end": ("t.csv", "text,harmful,\none,1,\n"),
    "two columns without a name": ("t.csv", "text,,harmful,\none,a,1,b\n"),
    "a header alone in quotes": ("t.csv", '"text","harmful"\n"one","1"\n'),
    "capitals in the suffix": ("T.CSV", "text,harmful\none,1\n"),
    "capitals in another": ("T.JsonL", '{"text": "one", "harmful": true}\n'),
    "an unused value that is no number": ("t.jsonl", '{"text": "one", "harmful": true, "a": NaN, "b": -Infinity}\n'),
    "an unused half of a character": ("t.jsonl", '{"text": "one", "harmful": true, "raw": "\\ud83d"}\n'),
    "unused nests": ("t.jsonl", '{"text": "one", "harmful": true, "m": [{"a": [{"b": null}]}]}\n'),
    "an empty list among the columns": ("t.json", '[{"text": "one", "harmful": true, "tags": []}]'),
    "a list after blank lines": ("t.json", '\n\n [{"text": "one", "harmful": true}]\n\n'),
}


@pytest.mark.parametrize("name", FILES)
def test_a_text_file_is_read_whatever_else_it_holds(name: str, tmp_path: Path) -> None:
    file, text = FILES[name]
    (tmp_path / file).write_text(text, "utf-8", newline="")
    assert read_one(tmp_path / file) == ("one", True)


def add_empty_sheet(book: Any) -> None:
    book.create_sheet("Notes")


def add_chart_sheet(book: Any) -> None:
    chart = openpyxl.chart.BarChart()
    chart.add_data(openpyxl.chart.Reference(book.active, min_col=2, min_row=1, max_row=2))
    book.create_chartsheet("Chart").add_chart(chart)


def add_comment(book: Any) -> None:
    book.active["A2"].comment = openpyxl.comments.Comment("note", "author")


def add_date(book: Any) -> None:
    book.active["C1"], book.active["C2"] = "day", date(2024, 1, 1)


def add_error(book: Any) -> None:
    book.active["C1"], book.active["C2"] = "share", "#DIV/0!"


def add_format(book: Any) -> None:
    book.active["Z90"].font = openpyxl.styles.Font(bold=True)
    book.active.freeze_panes = "A2"
    book.active.auto_filter.ref = "A1:B2"


def add_formula(book: Any) -> None:
    book.active["C1"], book.active["C2"] = "sum", "=1+1"


@pytest.mark.parametrize(
    "add", [add_empty_sheet, add_chart_sheet, add_comment, add_date, add_error, add_format, add_formula]
)
def test_a_workbook_is_read_whatever_else_it_holds(add: Callable[[Any], None], tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [("text", "harmful"), ("one", 1)]:
        book.active.append(row)
    add(book)
    book.save(tmp_path / "t.xlsx")
    assert read_one(tmp_path / "t.xlsx") == ("one", True)


# --- categories -------------------------------------------------------------------------------------------------------

CATEGORIES: list[tuple[Kind, str, dict[str, Any], str | None]] = [
    ("star1", "s.jsonl", {"id": "1", "question": "q", "category": ["Deception", "Fraud"]}, "Deception; Fraud"),
    ("star1", "s.parquet", {"id": "1", "question": "q", "category": ["Deception", "Fraud"]}, "Deception; Fraud"),
    ("star1", "s.parquet", {"id": "1", "question": "q", "category": [" Fraud "]}, "Fraud"),
    ("sorry-bench", "q.jsonl", {"question_id": 7, "category": 12, "turns": ["Do it"], "prompt_style": "base"}, "12"),
    ("harmbench", "h.csv",
     {"Behavior": "Do it", "SemanticCategory": "illegal", "ContextString": "", "BehaviorID": "i"}, "illegal"),
    ("strongreject", "s.csv", {"category": "Violence", "source": "s", "forbidden_prompt": "Do it"}, "Violence"),
    ("xstest", "x.csv", {"id": "1", "prompt": "p", "type": "homonyms", "label": "safe"}, "homonyms"),
    ("jailbreakbench", "benign.csv", {"Index": "0", "Goal": "g", "Category": "Privacy"}, "Privacy"),
    ("or-bench", "or-bench-80k.csv", {"prompt": "p", "category": "deception"}, "deception"),
    ("or-bench", "or-bench-80k.csv", {"prompt": "p", "category": " "}, None),
    ("math500", "m.jsonl", {"problem": "p", "answer": "1", "subject": "Algebra", "unique_id": "u"}, "Algebra"),
    ("file", "f.csv", {"text": "t", "harmful": "1", "category": "mine"}, "mine"),
    ("file", "f.jsonl", {"text": "t", "harmful": True, "category": ["a", "b"]}, "a; b"),
    ("file", "f.jsonl", {"text": "t", "harmful": True, "category": 3}, "3"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "file", "row", "category"), CATEGORIES)
def test_categories_are_those_of_the_dataset(
    kind: Kind, file: str, row: dict[str, Any], category: str | None, tmp_path: Path
) -> None:
    (prompt,) = load(write(tmp_path / file, [row]), kind).prompts
    assert prompt.category == category


@pytest.mark.parametrize(("value", "label"), [([1, 2], "1; 2"), ([None, None], None), (["", "a"], "a"), ("  ", None)])
def test_labels_of_lists_and_gaps(value: object, label: str | None) -> None:
    assert label_of({"category": value}, "category") == label


# --- all bad rows at once ---------------------------------------------------------------------------------------------

GOOD = '{"text": "one", "harmful": true}\n'
BROKEN = {
    "lines that are no JSON": ("t.jsonl", GOOD + "{no\n" + GOOD + "[\n", ("line 2", "line 4")),
    "lines of other values": ("t.jsonl", "7\n" + GOOD + '["a"]\n', ("line 1", "line 3")),
    "both": ("t.jsonl", GOOD + "{no\n7\n", ("line 2", "line 3")),
    "items of a list": ("t.json", '[1, {"text": "one", "harmful": true}, "a"]', ("item 1", "item 3")),
    "rows with too many cells": ("t.csv", "text,harmful\na,b,1\nc,0\nd,e,0\n", ("row 1", "row 3")),
    "rows with too few": ("t.tsv", "text\tharmful\na\nc\t0\nd\n", ("row 1", "row 3")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_all_broken_rows_of_a_file_are_named_at_once(name: str, tmp_path: Path) -> None:
    file, text, places = BROKEN[name]
    (tmp_path / file).write_text(text, "utf-8")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / file)
    assert all(place in str(caught.value) for place in places), str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_missing_columns_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'question', 'options'; found 'other'"):
        load(write(tmp_path / "q.jsonl", [{"other": 1}]), "mmlu-pro")


def test_bad_rows_of_every_reason_are_named_at_once(tmp_path: Path) -> None:
    rows = [{"text": "", "harmful": True}, {"text": "b", "harmful": "maybe"}, {"text": "c", "harmful": 1, "level": 9}]
    with pytest.raises(DataError) as caught:
        load(write(tmp_path / "t.jsonl", rows))
    reasons = ("row 1: text is empty", "row 2: harmful is", "row 3: level is")
    assert all(reason in str(caught.value) for reason in reasons)


def test_all_bad_lines_of_a_keys_file_are_named_at_once_without_their_keys(tmp_path: Path) -> None:
    key = "k3y-" * 8
    lines = ["# ours", f"a:{key}", "no colon", "b:short", "", f"a:{key}", f"c:{key}ü", f":{key}"]
    (tmp_path / "keys").write_text("\r\n".join(lines), "utf-8-sig", newline="")
    with pytest.raises(ConfigError) as caught:
        read_keys(tmp_path / "keys")
    assert all(f"line {number}" in str(caught.value) for number in (3, 4, 6, 7, 8))
    assert not any(f"line {number}" in str(caught.value) for number in (1, 2, 5))
    assert "\n" not in str(caught.value) and "k3y" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_key_s_name(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a:" + "k3y-" * 8, "utf-8-sig")
    assert list(read_keys(tmp_path / "keys")) == ["a"]


@pytest.mark.parametrize("long", [(0, 1), (7, 8), (0, 8), (2, 4, 6)])
def test_long_prompts_of_any_set_are_named_at_once(long: tuple[int, ...]) -> None:
    prompts = [make_prompt(number) for number in range(9)]
    lengths = {prompt.id: 99 if place in long else 5 for place, prompt in enumerate(prompts)}
    inputs = Inputs(prompts[:5], prompts[5:], [], [], [])
    with pytest.raises(DataError) as caught:
        fitting(inputs, lengths, 10, refuse=True)
    assert all(prompts[place].id in str(caught.value) for place in long)
    rest, rows = fitting(inputs, lengths, 10, refuse=False)
    assert [row.place for row in rows] == [prompts[place].id for place in long]
    assert len(rest.train_P) + len(rest.heldout_P) == 9 - len(long)
