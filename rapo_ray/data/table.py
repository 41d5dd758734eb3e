"""A file of a published dataset, as the readers of its rows know it."""

from collections.abc import Callable
from dataclasses import dataclass

from rapo_ray.data.rows import Row
from rapo_ray.types import Prompt


@dataclass(frozen=True, slots=True)
class Table:
    """A file of a dataset, and the name of its source."""

    name: str
    split: str
    columns: list[str]
    harmful: bool  # of a dataset whose rows do not say it


Columns = list[str]  # that a file must have
ToPrompt = Callable[[Table, int, Row], Prompt]  # of a row and its number, counted from 1; raises RowError
