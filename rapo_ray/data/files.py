"""Readers of table files; a file that cannot be read raises one clear DataError."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rapo_ray.data.packing import PACKINGS, unpack
from rapo_ray.errors import DataError, named
from rapo_ray.text.lines import split_lines

# The csv module's limit (128 KiB a cell) would refuse a whole file for one long prompt; rows.py refuses only the row.
CSV_CELL_LIMIT = 2**31 - 1

# Shards as the hub names them: `test/0000.parquet`, `test-00000-of-00001.parquet`.
SHARD = re.compile(r"[0-9]{4,5}|(?P<split>.+)-[0-9]{5}-of-[0-9]{5}")

# The names of role and text in the turns of a dialogue: chat APIs', and ShareGPT's.
DIALOGUE_FIELDS = (("role", "content"), ("from", "value"))

RawRow = dict[str, object]


@dataclass(frozen=True, slots=True)
class Unread:
    """A cell without a plain value, and the reason; it costs its row only where the column is used."""

    why: str

    def __repr__(self) -> str:
        """The reason, for messages about the cell."""
        return self.why


class _BrokenRow(ValueError):
    """Text that is no row; the message says its place and the reason."""


def read_table(path: Path) -> list[RawRow]:
    """Rows of a .jsonl, .json, .csv, .tsv, .txt, .parquet or .xlsx file, keyed by column; text may be packed (.gz ...).

    JSON may be a list or an object a line, whatever the file's name; a line of .txt is the column `text`. Spreadsheet
    formulas are never evaluated: in CSV they stay text, in xlsx they give the value that was saved. Raises DataError
    where the file is missing, of an unknown kind, or broken.
    """
    kind, packing = _kind(path)
    reader = READERS.get(kind)
    if reader is None or (packing and kind not in TEXT_KINDS):
        raise DataError(
            f"{path}: unknown kind of file {kind + packing!r}; expected one of {', '.join(READERS)}, or one of "
            f"{', '.join(TEXT_KINDS)} followed by one of {', '.join(PACKINGS)}"
        )
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {problem}; check the path (relative paths start at {Path.cwd()})")
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_first_line(error)})") from error


def split_of(path: Path) -> str:
    """The name of a file without its kind; of a shard as the hub names them, its split."""
    stem = path.name.removesuffix(path.suffix) if not _kind(path)[1] else path.with_suffix("").stem
    shard = SHARD.fullmatch(stem)
    return stem if shard is None else shard["split"] or path.parent.name


def read_text(path: Path) -> str:
    """The unpacked text of a file; raises DataError where it is broken or not UTF-8, and OSError."""
    try:
        return unpack(path, _kind(path)[1]).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def _kind(path: Path) -> tuple[str, str]:
    """The suffix that tells the kind of table, and the one of the packing around it, if any."""
    last = path.suffix.lower()
    return (path.with_suffix("").suffix.lower(), last) if last in PACKINGS else (last, "")


def _read_json(path: Path) -> list[RawRow]:
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            items = _parse_json(text, 1)
        except _BrokenRow as error:
            raise DataError(f"{path}: {error}; fix the line") from error
        return _all_rows(path, [partial(_object, item, f"item {number}") for number, item in enumerate(items, start=1)])
    if _kind(path)[0] == ".json" and (held := _one_value(text)):
        raise DataError(f"{path}: holds {held}, expected a list of objects, or an object a line")
    lines = enumerate(split_lines(text), start=1)
    return _all_rows(path, [partial(_line, line, number) for number, line in lines if line.strip()])


def _all_rows(path: Path, readers: Sequence[Callable[[], RawRow]]) -> list[RawRow]:
    """The rows that the readers give; raises DataError that names all broken ones."""
    rows, broken = [], []
    for read in readers:
        try:
            rows.append(read())
        except _BrokenRow as error:
            broken.append(str(error))
    if broken:
        raise DataError(f"{path}: {named(broken)}; fix {'it' if len(broken) == 1 else 'them'}")
    return rows


def _line(text: str, number: int) -> RawRow:
    return _object(_parse_json(text, number), f"line {number}")


def _one_value(text: str) -> str | None:
    """The type of the value that the whole text is; None for several, or a broken one."""
    try:
        return type(json.loads(text)).__name__
    except (ValueError, RecursionError):
        return None


def _parse_json(text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise _BrokenRow(f"line {line} is not JSON ({error.msg}, column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise _BrokenRow(f"line {first_line} is not usable JSON ({_first_line(error)})") from error


def _object(item: object, place: str) -> RawRow:
    if not isinstance(item, dict):
        raise _BrokenRow(f"{place} is {type(item).__name__}, expected an object with named columns")
    return item


def _read_lines(path: Path) -> list[RawRow]:
    return [{"text": line} for line in split_lines(read_text(path)) if line.strip()]


def _read_delimited(path: Path, delimiter: str) -> list[RawRow]:
    text = io.StringIO(read_text(path), newline="")
    limit = csv.field_size_limit(CSV_CELL_LIMIT)
    try:
        # Strict, since a stray quote would otherwise silently merge rows or drop characters.
        cells = [row for row in csv.reader(text, delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{path}: not well-formed ({error}); quote cells and double the quotes in them") from error
    finally:
        csv.field_size_limit(limit)
    header = cells[0] if cells else []
    wrong = [f"row {at} has {len(row)} cells" for at, row in enumerate(cells[1:], start=1) if len(row) != len(header)]
    if wrong:
        raise DataError(f"{path}: {named(wrong)}, the header {len(header)}; quote cells that hold a delimiter")
    repeated = _repeated(header)
    # Spreadsheets write rows of nothing but delimiters after the last one; a lone empty cell is a row.
    rows: list[RawRow] = [dict(zip(header, row, strict=True)) for row in cells[1:] if len(row) == 1 or any(row)]
    return [row | repeated for row in rows]


def _read_parquet(path: Path) -> list[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            unread = {field.name: Unread(_kind_of(field)) for field in file.schema_arrow if not _is_plain(field)}
            unread |= _repeated(names)
            plain = [name for name in names if name not in unread]
            return [row for batch in file.iter_batches(columns=plain) for row in _rows(batch, names, unread)]
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({_first_line(error)})") from error


def _rows(batch: Any, names: Sequence[str], unread: dict[str, Unread]) -> list[RawRow]:
    columns = {name: [why] * batch.num_rows for name, why in unread.items()}
    columns |= {name: _values(batch.column(name)) for name in names if name not in unread}
    return [{name: columns[name][index] for name in names} for index in range(batch.num_rows)]


def _values(column: Any) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # broken text, a distant date
        return [_value(cell) for cell in column]


def _value(cell: Any) -> object:
    try:
        return cell.as_py()
    except (ValueError, OverflowError) as error:
        return Unread(f"unreadable ({_first_line(error)})")


def _is_plain(field: Any) -> bool:
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
        if types.is_struct(kind):
            names = {kind.field(index).name for index in range(kind.num_fields)}
            return not _is_extension(field) and any(set(turn) <= names for turn in DIALOGUE_FIELDS)
    text = types.is_string(kind) or types.is_large_string(kind)
    return not _is_extension(field) and (
        text or types.is_primitive(kind) or types.is_null(kind) or types.is_decimal(kind)
    )


def _is_extension(field: Any) -> bool:
    return b"ARROW:extension:name" in (field.metadata or {})


def _kind_of(field: Any) -> str:
    return f"{field.type}, an extension" if _is_extension(field) else str(field.type)


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
    return _sheet_rows(filled[0]) if filled else []


def _cells(sheet: Any) -> list[tuple[object, ...]]:
    sheet.reset_dimensions()  # some writers store a wrong size, and cells beyond it would be dropped
    return [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]


def _sheet_rows(cells: Sequence[tuple[object, ...]]) -> list[RawRow]:
    columns = {index: str(name) for index, name in enumerate(cells[0]) if name is not None}
    repeated = _repeated(list(columns.values()))
    return [
        {name: row[index] if index < len(row) else None for index, name in columns.items()} | repeated
        for row in cells[1:]  # short rows end early
    ]


def _repeated(header: Sequence[str]) -> dict[str, Unread]:
    """Cells of the columns that share a name: nobody can tell which of them is meant."""
    return {name: Unread("in two columns of that name") for name, count in Counter(header).items() if count > 1}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


TEXT_READERS: dict[str, Callable[[Path], list[RawRow]]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".ndjson": _read_json,
    ".txt": _read_lines,
}
TEXT_KINDS = tuple(TEXT_READERS)
READERS = TEXT_READERS | {".parquet": _read_parquet, ".xlsx": _read_xlsx}
