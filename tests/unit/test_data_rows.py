"""Poisoned rows and files: a bad row is quarantined with its reason, a bad file raises one clear DataError."""

import bz2
import csv
import gzip
import json
import lzma
import pickle
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from rapo_ray.data.files import Unread, read_table, split_of
from rapo_ray.data.rows import (
    EmptyRow,
    LoadedSource,
    Row,
    harmful_of,
    id_of,
    label_of,
    level_of,
    read_rows,
    require_columns,
    text_of,
)
from rapo_ray.errors import DataError
from rapo_ray.types import Prompt

pytestmark = pytest.mark.unit

ANY = 1.0


def load(rows: Sequence[Row], max_bad_share: float = ANY) -> LoadedSource:
    def to_prompt(number: int, row: Row) -> Prompt:
        return Prompt(f"s/{id_of(number, row)}", text_of(row, "text"), harmful_of(row), level_of(row), "s", "train")

    return read_rows("s (s.jsonl)", rows, to_prompt, max_bad_share)


def good(text: str = "fine", **more: object) -> dict[str, object]:
    return {"text": text, "harmful": False, **more}


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"harmful": False}, "text is missing"),
        (good() | {"text": None}, "text is missing"),
        (good() | {"text": float("nan")}, "text is NaN"),
        (good() | {"text": 7}, "text is int, not text"),
        (good() | {"text": ["a"]}, "text is list, not text"),
        (good() | {"text": b"bytes"}, "text is bytes, not text"),
        (good(" \n\t"), "text is empty"),
        (good("x" * 1_000_000), "text has 1,000,000 characters, over 200,000"),
        (good("bad \ud800 text"), "text is not Unicode text (lone surrogate at character 4)"),
        (good("first"), "duplicate text of row 1 of s (s.jsonl)"),
        (good("  first\n"), "duplicate text of row 1 of s (s.jsonl)"),
        (good(id="1"), "duplicate id 's/1'"),
        (good(id=None), "id is missing"),
        (good(id=True), "id is bool, not text"),
        (good() | {"harmful": "maybe"}, "harmful is 'maybe', not true or false"),
        (good() | {"harmful": 2}, "harmful is 2, not true or false"),
        (good() | {"harmful": None}, "harmful is None, not true or false"),
        (good() | {"harmful": float("nan")}, "harmful is nan, not true or false"),
        (good() | {"harmful": [True]}, "harmful is [True], not true or false"),
        (good() | {"text": "nan"}, "text is NaN"),
        (good() | {"text": " NaN "}, "text is NaN"),
        (good(id=1.5), "id is 1.5, not text or a whole number"),
        (good(id=Decimal("2.5")), "id is Decimal('2.5'), not text or a whole number"),
        (good(id=float("inf")), "id is inf, not text or a whole number"),
        (good(id=float("nan")), "id is NaN"),
        (good(id="nan"), "id is NaN"),
        (good() | {"harmful": "0.5"}, "harmful is '0.5', not true or false"),
        (good() | {"harmful": 0.5}, "harmful is 0.5, not true or false"),
        (good() | {"harmful": "nan"}, "harmful is 'nan', not true or false"),
        (good() | {"harmful": ""}, "harmful is '', not true or false"),
        (good(level="1.5"), "level is '1.5', not 1, 2, 3 or empty"),
        (good(level="0.0"), "level is '0.0', not 1, 2, 3 or empty"),
        (good(level=float("inf")), "level is inf, not 1, 2, 3 or empty"),
        (good(level="1,0"), "level is '1,0', not 1, 2, 3 or empty"),
        (good(level="1" * 30), "level is '111111111111111111111111111111', not 1, 2, 3 or empty"),
        (good(level=[1]), "level is [1], not 1, 2, 3 or empty"),
        (good(level=4), "level is 4, not 1, 2, 3 or empty"),
        (good(level=True), "level is True, not 1, 2, 3 or empty"),
        (good(level=1.5), "level is 1.5, not 1, 2, 3 or empty"),
        (good(level="high"), "level is 'high', not 1, 2, 3 or empty"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason_and_its_neighbours_stay(row: Row, reason: str) -> None:
    loaded = load([good("first", id="1"), row, good("last")])
    assert [prompt.text for prompt in loaded.prompts] == ["first", "last"]
    assert [(bad.source, bad.row, bad.reason) for bad in loaded.quarantined] == [("s (s.jsonl)", 2, reason)]


@pytest.mark.parametrize("value", [True, 1, 1.0, Decimal(1), "true", "True", " TRUE ", "1", "1.0"])
def test_harmful_spellings_of_true(value: object) -> None:
    assert harmful_of({"harmful": value}) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, Decimal("0.0"), "false", "FALSE", "0", "0.0", "-0"])
def test_harmful_spellings_of_false(value: object) -> None:
    assert harmful_of({"harmful": value}) is False


LEVELS = [
    (1, 1), (2.0, 2), (Decimal("3.00"), 3), ("3", 3), ("1.0", 1), (" 2. ", 2), (None, None), ("", None), (" ", None),
    (float("nan"), None), (Decimal("NaN"), None), ("nan", None), ("NaN", None), ("<NA>", None), ("None", None),
    ("null", None), ("#N/A", None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "level"), LEVELS)
def test_level_spellings(value: object, level: int | None) -> None:
    parsed = level_of({"level": value})
    assert parsed == level
    assert type(parsed) is type(level)


@pytest.mark.parametrize(("value", "name"), [("7", "7"), (7, "7"), (7.0, "7"), (Decimal("7.0"), "7"), (" a ", "a")])
def test_id_spellings(value: object, name: str) -> None:
    assert id_of(3, {"id": value}) == name


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("law", "law"), (7, "7"), (7.0, "7"), (0.25, "0.25"), (Decimal("0.10"), "0.10"), (["Fraud"], "Fraud"),
        (["Fraud", " ", None, "Theft"], "Fraud; Theft"), ([], None), (None, None), ("", None), ("nan", None),
        (float("nan"), None), (True, None), ({"a": 1}, None),
    ],
)  # fmt: skip
def test_label_spellings(value: object, label: str | None) -> None:
    assert label_of({"category": value}, "other", "category") == label


def test_a_table_that_pandas_wrote_with_gaps_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text,harmful,level\n1.0,a,1.0,1.0\n2.0,b,0.0,\n3.0,c,True,nan\n", "utf-8")
    prompts = load(read_table(tmp_path / "t.csv"), 0.0).prompts
    assert [(prompt.harmful, prompt.level) for prompt in prompts] == [(True, 1), (False, None), (True, None)]
    columns = {"id": [1.0, 2.0], "text": ["a", "b"], "harmful": [1.0, 0.0], "level": [1.0, float("nan")]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    write_xlsx(tmp_path / "t.xlsx", [list(columns), [1.0, "a", 1.0, 1.0], [2, "b", False, None]])
    for suffix in (".parquet", ".xlsx"):
        prompts = load(read_table(tmp_path / f"t{suffix}"), 0.0).prompts
        assert [(one.id, one.harmful, one.level) for one in prompts] == [("s/1", True, 1), ("s/2", False, None)]


def test_text_is_kept_as_published_and_the_longest_allowed_is_kept() -> None:
    texts = ["  spaces stay \n", "y" * 200_000, "攻击指令 🙂"]
    assert [prompt.text for prompt in load([good(text) for text in texts]).prompts] == texts


@pytest.mark.fault(13)
def test_all_bad_rows_are_an_error_even_where_any_share_may_be_bad() -> None:
    with pytest.raises(DataError, match=r"^s \(s.jsonl\): 2 of 2 rows are bad.*row 1: text is empty"):
        load([good(""), good(" ")], max_bad_share=1.0)


def test_the_bad_share_is_a_limit_not_a_target() -> None:
    rows = [good(str(number)) for number in range(3)] + [good("")]
    assert len(load(rows, max_bad_share=0.25).prompts) == 3
    with pytest.raises(
        DataError, match=r"1 of 4 rows are bad, more than the allowed share of 0.2 \(row 4: text is empty"
    ):
        load(rows, max_bad_share=0.2)


def test_the_error_of_many_bad_rows_is_one_short_line_without_the_prompts() -> None:
    with pytest.raises(DataError) as caught:
        load([good("secret\nprompt"), *[good("secret\nprompt", level="x" * 10_000) for _ in range(50)]], 0.0)
    message = str(caught.value)
    assert "50 of 51" in message
    assert "\n" not in message
    assert "secret" not in message
    assert len(message) < 400
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_no_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="holds no rows"):
        load([])


def test_a_missing_column_is_named_beside_those_found() -> None:
    with pytest.raises(DataError, match=r"s\.csv: no column 'question'; found 'prompt', 'id'$"):
        require_columns("s.csv", [{"prompt": "a"}, {"id": 1}], ["id", "question"])


def write_xlsx(path: Path, rows: Sequence[Sequence[object]], sheets: int = 1) -> Path:
    book = openpyxl.Workbook()
    for number in range(sheets):
        sheet = book.active if number == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_every_kind_of_file_gives_the_same_texts(tmp_path: Path) -> None:
    texts = ['say "hi", then\nstop', "line\u2028separator", "攻击指令"]
    rows = [{"text": text} for text in texts]
    (tmp_path / "t.jsonl").write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    (tmp_path / "t.json").write_text(json.dumps(rows), "utf-8")
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        with (tmp_path / f"t{suffix}").open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([["text"], *[[text] for text in texts]])
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet")
    write_xlsx(tmp_path / "t.xlsx", [["text"], *[[text] for text in texts]])
    suffixes = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx")
    assert {suffix: read_table(tmp_path / f"t{suffix}") for suffix in suffixes} == dict.fromkeys(suffixes, rows)


@pytest.mark.fault(13)
def test_a_formula_is_never_evaluated(tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://x.invalid","go")'
    (tmp_path / "t.csv").write_text('text\n"=1+1"\n"@SUM(A1)"\n', "utf-8")
    assert [row["text"] for row in read_table(tmp_path / "t.csv")] == ["=1+1", "@SUM(A1)"]
    assert read_table(write_xlsx(tmp_path / "t.xlsx", [["text", "n"], [formula, 1]])) == [{"text": None, "n": 1}]


@pytest.mark.fault(13)
def test_a_megabyte_csv_cell_costs_its_row_and_not_the_file(tmp_path: Path) -> None:
    csv.field_size_limit(limit := 131_072)
    (tmp_path / "t.csv").write_text(f"text,harmful\n{'x' * 1_000_000},0\nfine,1\n", "utf-8")
    loaded = load(read_table(tmp_path / "t.csv"))
    assert [prompt.text for prompt in loaded.prompts] == ["fine"]
    assert len(loaded.quarantined) == 1
    assert csv.field_size_limit() == limit


@pytest.mark.fault(13)
def test_nulls_and_nans_of_parquet_are_quarantined(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None, "b"], "harmful": [1.0, 0.0, float("nan")]}), tmp_path / "t.parquet")
    loaded = load(read_table(tmp_path / "t.parquet"))
    assert [(prompt.text, prompt.harmful) for prompt in loaded.prompts] == [("a", True)]
    assert [bad.reason for bad in loaded.quarantined] == ["text is missing", "harmful is nan, not true or false"]


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "column",
    [
        pa.array([pickle.dumps(print)]),
        pa.array([[["nested twice"]]]),
        pa.array([[pickle.dumps(print)]]),
        pa.array([{"a": 1}]),
        pa.array([b"four"], pa.binary(4)),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16))),
    ],
    ids=["pickled object", "list of lists", "list of pickled objects", "struct", "fixed binary", "extension"],
)
def test_a_parquet_column_of_objects_is_never_read_and_refused_only_where_it_is_the_text(
    tmp_path: Path, column: pa.Array
) -> None:
    pq.write_table(pa.table({"text": ["fine"], "harmful": [True], "payload": column}), tmp_path / "t.parquet")
    rows = read_table(tmp_path / "t.parquet")
    assert [prompt.text for prompt in load(rows, 0.0).prompts] == ["fine"]
    assert isinstance(rows[0]["payload"], Unread)
    with pytest.raises(DataError, match=r"row 1: text is .*, not text"):
        load([row | {"text": row["payload"]} for row in rows])


def test_a_parquet_column_of_an_unregistered_extension_is_not_read_as_text(tmp_path: Path) -> None:
    field = pa.field("text", pa.string(), metadata={"ARROW:extension:name": "someone.else"})
    pq.write_table(pa.table([pa.array(["fine"])], schema=pa.schema([field])), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="row 1: text is string, an extension, not text"):
        load(read_table(tmp_path / "t.parquet"))


def test_a_parquet_categorical_is_plain_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "t.parquet")
    assert [row["text"] for row in read_table(tmp_path / "t.parquet")] == ["a", "b", "a"]


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"text": "a"}\n\n{"text": \n', r"line 3 is not JSON"),
        ("t.jsonl", b'{"text": "a"}\n["b"]\n', r"line 2 is list, expected an object"),
        ("t.jsonl", b"[" * 100_000, r"line 1 is not"),
        ("t.jsonl", b'{"text": ' + b"9" * 5_000 + b"}", r"line 1 is not usable JSON"),
        ("t.jsonl", b'{"text": "\xff"}', r"not UTF-8 at byte 10"),
        ("t.json", b'[\n{"text": "a"},\n]', r"line \d is not JSON"),
        ("t.json", b'{"text": "a"}', r"holds dict, expected a list"),
        ("t.json", b'[{"text": "a"}, 5]', r"item 2 is int"),
        ("t.csv", b"text,harmful\na,0\nb, unquoted,0\n", r"row 2 has 3 cells, the header 2"),
        ("t.csv", b'text,harmful\n"never closed,0\n', r"not well-formed"),
        ("t.tsv", b"text\tharmful\na\n", r"row 1 has 1 cells, the header 2"),
        ("t.parquet", b"not parquet at all", r"cannot be read as parquet"),
        ("t.xlsx", b"not a zip at all", r"cannot be read as xlsx"),
        ("t.pkl", b"cos\nsystem\n", r"unknown kind of file '\.pkl'; expected one of \.jsonl, \.json, \.csv"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_an_xlsx_that_is_another_zip_is_one_clear_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as file:
        file.writestr("other.txt", "x")
    with pytest.raises(DataError, match=r"t\.xlsx: cannot be read as xlsx"):
        read_table(tmp_path / "t.xlsx")


def test_two_filled_sheets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 sheets hold cells"):
        read_table(write_xlsx(tmp_path / "t.xlsx", [["text"], ["a"]], sheets=2))


def test_empty_xlsx_rows_and_nameless_columns_are_no_rows(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", [["text", None], ["a", None], [None, None], ["b", "note"], [None, None]])
    assert read_table(path) == [{"text": "a"}, {"text": "b"}]


def test_an_xlsx_that_states_a_wrong_size_loses_nothing(tmp_path: Path) -> None:
    whole = write_xlsx(tmp_path / "whole.xlsx", [["text", "level"], ["a", 1], ["b", 2]])
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "t.xlsx", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'ref="A1:B3"', b'ref="A1:A1"'))
    assert read_table(tmp_path / "t.xlsx") == [{"text": "a", "level": 1}, {"text": "b", "level": 2}]


def test_parquet_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    text = pa.array([b"\xff", b"fine"]).view(pa.string())
    pq.write_table(pa.table({"text": text, "harmful": [True, True]}), tmp_path / "t.parquet")
    loaded = load(read_table(tmp_path / "t.parquet"), 0.5)
    assert [prompt.text for prompt in loaded.prompts] == ["fine"]
    (bad,) = loaded.quarantined
    assert bad.reason.startswith("text is unreadable ('utf-8' codec can't decode byte 0xff")


NESTED = [[{"role": "user", "content": "hi"}]]
UNUSED = {
    "a column of messages": pa.array(NESTED),
    "a map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "a distant date": pa.array([2**60], pa.timestamp("us")),
    "broken text": pa.array([b"\xff"]).view(pa.string()),
    "bytes": pa.array([b"\x00"]),
}


@pytest.mark.parametrize("name", UNUSED)
def test_a_parquet_file_is_read_whatever_its_unused_columns_hold(tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"more": UNUSED[name], "text": ["fine"], "harmful": [False]}), tmp_path / "t.parquet")
    assert [prompt.text for prompt in load(read_table(tmp_path / "t.parquet"), 0.0).prompts] == ["fine"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx"])
def test_columns_of_one_name_are_refused_only_where_they_are_used(tmp_path: Path, suffix: str) -> None:
    def write(header: Sequence[str], row: Sequence[object]) -> Path:
        path = tmp_path / f"t{suffix}"
        if suffix == ".xlsx":
            return write_xlsx(path, [header, row])
        mark = "," if suffix == ".csv" else "\t"
        path.write_text(mark.join(header) + "\n" + mark.join(map(str, row)) + "\n", "utf-8")
        return path

    rows = read_table(write(["text", "note", "harmful", "note"], ["fine", "a", 1, "b"]))
    assert [prompt.text for prompt in load(rows, 0.0).prompts] == ["fine"]
    with pytest.raises(DataError, match="text is in two columns of that name, not text"):
        load(read_table(write(["text", "text", "harmful"], ["a", "b", 1])))
    with pytest.raises(DataError, match="level is in two columns of that name, not 1, 2, 3 or empty"):
        load(read_table(write(["text", "level", "harmful", "level"], ["a", 1, 1, 2])))


ROWS = [{"text": "one", "harmful": True}, {"text": "two\u2028lines", "harmful": False}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TEXTS = {
    "lines under json": ("t.json", LINES),
    "one a line with empty lines": ("t.json", LINES.replace("\n", "\n\n")),
    "lines under ndjson": ("t.ndjson", LINES),
    "a list under jsonl": ("t.jsonl", json.dumps(ROWS, indent=1)),
    "a list in one line": ("t.jsonl", json.dumps(ROWS)),
    "csv": ("t.csv", "text,harmful\none,true\ntwo\u2028lines,false\n"),
    "csv with rows of delimiters": ("t.csv", "text,harmful\none,true\n,\ntwo\u2028lines,false\n,\n,\n"),
    "tsv": ("t.tsv", "text\tharmful\none\ttrue\ntwo\u2028lines\tfalse\n"),
}
PACKED = {
    "": bytes, ".gz": gzip.compress, ".GZ": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}  # fmt: skip


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_by_its_content_and_from_any_packing(tmp_path: Path, name: str, packing: str) -> None:
    file, text = TEXTS[name]
    path = tmp_path / f"{file}{packing}"
    path.write_bytes(PACKED[packing]("\ufeff".encode() + text.encode()))
    loaded = load(read_table(path), 0.0)
    assert [(prompt.text, prompt.harmful) for prompt in loaded.prompts] == [("one", True), ("two\u2028lines", False)]
    assert split_of(path) == "t"


def test_a_packed_file_in_two_members_is_read_whole(tmp_path: Path) -> None:
    for suffix, pack in PACKED.items():
        path = tmp_path / f"t.jsonl{suffix}"
        path.write_bytes(b"".join(pack(line.encode()) for line in LINES.splitlines(keepends=True)[:1] * 2))
        assert len(read_table(path)) == 2


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("cut", [0, -3], ids=["no such packing", "cut off"])
def test_a_broken_packing_is_one_clear_line(tmp_path: Path, packing: str, cut: int) -> None:
    path = tmp_path / f"t.jsonl{packing}"
    path.write_bytes(PACKED[packing](LINES.encode())[:cut] if cut else b"plain text")
    with pytest.raises(DataError, match=rf"t\.jsonl\{packing}: cannot be unpacked as \{packing} ") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_a_packed_table_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown kind of file '\.parquet\.gz'; expected one of \.jsonl"):
        read_table(tmp_path / "t.parquet.gz")


def test_a_broken_line_under_json_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(DataError, match=r"t\.json: line 2 is not JSON"):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("mine.csv", "mine"), ("v1.5-hard.jsonl.gz", "v1.5-hard"), ("main/test/0000.parquet", "test"),
        ("data/train-00000-of-00003.parquet", "train"), ("or-bench-80k/train/0001.parquet", "train"),
        ("run-2024.csv", "run-2024"),
    ],
)  # fmt: skip
def test_a_shard_s_split_is_its_own_or_its_folder_s_name(path: str, split: str) -> None:
    assert split_of(Path(path)) == split


def test_rows_that_are_meant_to_be_empty_are_listed_but_are_no_bad_ones() -> None:
    def to_prompt(number: int, row: Row) -> Prompt:
        if row["text"] is None:
            raise EmptyRow("the format has none")
        return Prompt(f"s/{number}", text_of(row, "text"), True, None, "s", "train")

    rows: list[Row] = [{"text": "a"}, {"text": None}, {"text": None}, {"text": None}]
    loaded = read_rows("s", rows, to_prompt, 0.0)
    assert ([prompt.id for prompt in loaded.prompts], [bad.row for bad in loaded.quarantined]) == (["s/1"], [2, 3, 4])
    with pytest.raises(DataError, match=r"1 of 2 rows are bad, more than .* \(row 2: text is empty\)"):
        read_rows("s", [rows[0], {"text": " "}, rows[1]], to_prompt, 0.4)
    with pytest.raises(DataError, match=r"^s: all 1 rows are left out \(the format has none\)"):
        read_rows("s", rows[1:2], to_prompt, 1.0)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"folder\.csv: is a folder"):
        read_table(tmp_path / "folder.csv")
