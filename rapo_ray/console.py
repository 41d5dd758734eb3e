"""Terminal output: lines, tables and progress bars, which become plain lines where there is no terminal."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rapo_ray import roles

out = Console(highlight=False)

BAR_STEPS = 200  # most updates of a bar: redrawing it for every completion would slow the driver down
POLL_SECONDS = 1.0  # between two reads of a log that another process writes


def say(text: str) -> None:
    """Print one line."""
    out.print(text, markup=False, soft_wrap=True)


def show(renderable: RenderableType) -> None:
    """Print a table or any other object that rich can render."""
    out.print(renderable)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, transient=True, disable=not out.is_terminal)


@contextmanager
def progress(title: str) -> Iterator[roles.Progress]:
    """Show a progress bar for one round or measurement; silent where the output is no terminal."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)

        def judged(done: int, total: int) -> None:
            if done == total or done % (total // BAR_STEPS + 1) == 0:
                bar.update(task, completed=done, total=total)

        yield roles.Progress(
            judged=judged,
            phase=lambda name: bar.update(task, description=f"{title}: {name.replace('_', ' ')}"),
        )


@contextmanager
def follow_log(title: str, log: Path, total: int, loss_in: Callable[[str], float]) -> Iterator[None]:
    """Show a progress bar of the lines that another process appends to `log`; plain lines without a terminal."""
    finished = threading.Event()
    with _bar() as bar:
        task = bar.add_task(title, total=total)

        def read() -> None:
            seen = 0
            while not finished.wait(POLL_SECONDS):
                text = log.read_text(encoding="utf-8") if log.exists() else ""
                lines = text.split("\n")[:-1]  # the text after the last newline is an incomplete line
                if len(lines) == seen:
                    continue
                seen = len(lines)
                loss = f"loss {loss_in(lines[-1]):.3f}"
                bar.update(task, completed=seen, description=f"{title}: {loss}")
                if not out.is_terminal:
                    say(f"{title}: step {seen}/{total}, {loss}")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            finished.set()
            reader.join()
