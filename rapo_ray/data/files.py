"""Readers of table files; a file that cannot be read raises one clear DataError."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rapo_ray.errors import DataError
from rapo_ray.text.lines import split_lines

# The csv module's limit (128 KiB a cell) would refuse a whole file for one long prompt; rows.py refuses only the row.
CSV_CELL_LIMIT = 2**31 - 1

RawRow = dict[str, object]


def read_table(path: Path) -> list[RawRow]:
    """Rows of a .jsonl, .json (list), .csv, .tsv, .parquet or .xlsx file, keyed by column.

    Spreadsheet formulas are never evaluated: in CSV they stay text, in xlsx they give the value that was saved.
    Raises DataError where the file is missing, of an unknown kind, or broken.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of file {path.suffix!r}; expected one of {', '.join(READERS)}")
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {problem}; check the path (relative paths start at {Path.cwd()})")
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_first_line(error)})") from error


def _read_jsonl(path: Path) -> list[RawRow]:
    lines = enumerate(split_lines(_decode(path)), start=1)
    return [_object(_parse_json(path, line, number), path, f"line {number}") for number, line in lines if line.strip()]


def _read_json(path: Path) -> list[RawRow]:
    items = _parse_json(path, _decode(path), 1)
    if not isinstance(items, list):
        raise DataError(f"{path}: holds {type(items).__name__}, expected a list of objects")
    return [_object(item, path, f"item {number}") for number, item in enumerate(items, start=1)]


def _parse_json(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}: line {line} is not JSON ({error.msg}, column {error.colno}); fix the line") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise DataError(f"{path}: line {first_line} is not usable JSON ({_first_line(error)}); fix the line") from error


def _object(item: object, path: Path, place: str) -> RawRow:
    if not isinstance(item, dict):
        raise DataError(f"{path}: {place} is {type(item).__name__}, expected an object with named columns")
    return item


def _read_delimited(path: Path, delimiter: str) -> list[RawRow]:
    text = io.StringIO(_decode(path), newline="")
    limit = csv.field_size_limit(CSV_CELL_LIMIT)
    try:
        # Strict, since a stray quote would otherwise silently merge rows or drop characters.
        cells = [row for row in csv.reader(text, delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{path}: not well-formed ({error}); quote cells and double the quotes in them") from error
    finally:
        csv.field_size_limit(limit)
    header = cells[0] if cells else []
    _refuse_repeats(path, header)
    for number, row in enumerate(cells[1:], start=1):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header {len(header)}; quote its cells")
    return [dict(zip(header, row, strict=True)) for row in cells[1:]]


def _read_parquet(path: Path) -> list[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _refuse_objects(path, file.schema_arrow)
            return [row for batch in file.iter_batches() for row in batch.to_pylist()]
    except (pa.ArrowException, ValueError, OverflowError) as error:  # the last two from broken text and distant dates
        raise DataError(f"{path}: cannot be read as parquet ({_first_line(error)})") from error


def _refuse_objects(path: Path, schema: Any) -> None:
    _refuse_repeats(path, schema.names)
    refused = [f"{field.name!r} ({field.type})" for field in schema if not _is_plain(field)]
    if refused:
        raise DataError(f"{path}: column {', '.join(refused)} is not plain text, number or bool; drop or convert it")


def _is_plain(field: Any) -> bool:
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    extended = b"ARROW:extension:name" in (field.metadata or {})
    text = types.is_string(kind) or types.is_large_string(kind)
    return not extended and (text or types.is_primitive(kind) or types.is_null(kind))


def _read_xlsx(path: Path) -> list[RawRow]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheets = [_cells(sheet) for sheet in book.worksheets]
        finally:
            book.close()
    except OSError:
        raise
    except Exception as error:  # a broken file can fail in the zip, the XML or the cells, each with its own error
        raise DataError(f"{path}: cannot be read as xlsx ({_first_line(error)})") from error
    filled = [cells for cells in sheets if cells]
    if len(filled) > 1:
        raise DataError(f"{path}: {len(filled)} sheets hold cells; keep one")
    return _sheet_rows(path, filled[0]) if filled else []


def _cells(sheet: Any) -> list[tuple[object, ...]]:
    sheet.reset_dimensions()  # some writers store a wrong size, and cells beyond it would be dropped
    return [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]


def _sheet_rows(path: Path, cells: Sequence[tuple[object, ...]]) -> list[RawRow]:
    columns = {index: str(name) for index, name in enumerate(cells[0]) if name is not None}
    _refuse_repeats(path, list(columns.values()))
    return [
        {name: row[index] if index < len(row) else None for index, name in columns.items()}  # short rows end early
        for row in cells[1:]
    ]


def _refuse_repeats(path: Path, header: Sequence[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}: column {name!r} appears twice; rename one")


def _decode(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


READERS: dict[str, Callable[[Path], list[RawRow]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".parquet": _read_parquet,
    ".xlsx": _read_xlsx,
}
