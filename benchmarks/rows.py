"""Code that all benchmarks share: rows of figures beside peers and goals, and tables."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours, the peer's from the same run where there is one, and the goal."""

    name: str
    unit: str
    ours: float
    peer: float | None
    ratio: float | None  # factor by which ours is better than the peer's
    goal: str
    reached: bool | None  # None where there is no goal
    spread: str = ""
    floor: str = ""  # limit of this machine, measured in the same run


def add_rows_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--rows FILE`, which `make bench` passes."""
    parser.add_argument("--rows", type=Path, help="also write the figures to this file")


def write_rows(path: Path | None, rows: Sequence[Row]) -> None:
    """Write the rows for `make bench`; does nothing without a path."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")


def print_table(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table below its title."""
    table = Table(*headings)
    for line in lines:
        table.add_row(*line)
    console = Console(width=120)
    console.print(title)
    console.print(table)


def in_shares(parts: dict[str, float]) -> str:
    """Format named shares of a whole, the largest first."""
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{share:.0%} {name}" for name, share in ranked)


def value_range(values: Sequence[float], digits: int = 1) -> str:
    """Format the range of some measurements."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
