"""`python -m rapo_ray.status`: the state of a run, in the terminal."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray.errors import finish

if TYPE_CHECKING:
    from rich.table import Table

    from rapo_ray.monitoring.status import RunStatus

DESCRIPTION = """Show the status of a run: its state, its round, the last figures and seconds of each phase, the last
checkpoint, evaluation and gate, and where its report is. Reads the run's folder only: works without Ray, on any machine
that sees the folder. A run counts as running while a process holds its lock."""
EVERY = 2.0  # seconds between two reads with --follow


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.status") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("run", nargs="?", type=Path, help="a run's folder, or its name below --out; else the newest")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--follow", action="store_true", help="keep showing it until the run is over, or Ctrl-C")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    return finish(lambda: _show(options), options.debug, "no longer followed; the run is not affected")


def _show(options: argparse.Namespace) -> int:
    from rich.live import Live

    from rapo_ray import console
    from rapo_ray.monitoring.status import newest_run, read_status

    if options.run is None:
        folder = newest_run(options.out)
    else:
        folder = options.run if options.run.exists() else options.out / options.run
    status = read_status(folder)
    if not options.follow:
        console.out.print(table(status), soft_wrap=True)
        return 0
    with Live(table(status), console=console.out, auto_refresh=False) as live:
        while not status.over:
            time.sleep(EVERY)
            status = read_status(folder)
            live.update(table(status), refresh=True)
    return 0


def table(status: "RunStatus") -> "Table":
    """Status of a run as a table."""
    from rich.table import Table
    from rich.text import Text

    from rapo_ray.monitoring.status import facts

    shown = Table(title=Text(str(status.folder)), title_justify="left", show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, text in facts(status):
        link = f"link {text}" if text.startswith("file:") else ""
        shown.add_row(name, Text(text, style=link))
    return shown


if __name__ == "__main__":
    sys.exit(main())
