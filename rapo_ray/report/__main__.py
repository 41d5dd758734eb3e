"""`python -m rapo_ray.report`: one self-contained HTML page about a run or an evaluation."""

import argparse
import sys
from pathlib import Path

from rapo_ray.errors import finish

DESCRIPTION = """Write FOLDER/report.html: figures with intervals, rewards, levels and cases, judge health, times and
samples of a run, or of a folder that an evaluation left. A run that still goes on is reported as far as it is. The page
is one file and asks the network for nothing; harmful text in it stays folded until it is opened."""


def main(arguments: list[str] | None = None, program: str = "python -m rapo_ray.report") -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(program, description=DESCRIPTION)
    parser.add_argument("folder", type=Path, help="a run's folder, as runs/quickstart, or an evaluation's")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_args(arguments)
    return finish(lambda: _write(options), options.debug)


def _write(options: argparse.Namespace) -> int:
    from rapo_ray.report.page import write_report

    print(write_report(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
