"""What all benchmarks share: a measured row beside its peer and its goal, and tables."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours, the peer's of the same run where there is one, and what was to be reached."""

    name: str
    unit: str
    ours: float
    peer: float | None
    ratio: float | None  # how many times better than the peer
    goal: str
    reached: bool | None  # None where there is no goal
    spread: str = ""
    floor: str = ""  # what this machine could do at best, as measured beside it


def add_rows_option(parser: argparse.ArgumentParser) -> None:
    """`--rows FILE`, which `make bench` gives."""
    parser.add_argument("--rows", type=Path, help="also write the figures to this file")


def write_rows(path: Path | None, rows: Sequence[Row]) -> None:
    """Write them for `make bench`, where it asks."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")


def print_table(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table under a line that says what was measured."""
    table = Table(*headings)
    for line in lines:
        table.add_row(*line)
    console = Console(width=120)
    console.print(title)
    console.print(table)


def in_shares(parts: dict[str, float]) -> str:
    """Named shares of a whole, the largest first."""
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{share:.0%} {name}" for name, share in ranked)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The range of some measurements."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
