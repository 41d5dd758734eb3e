"""Sources as the config names them: which reader, which file, which columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from rapo_ray.data.generic import load_file
from rapo_ray.data.math500 import load_math500
from rapo_ray.data.quickstart_set import load_quickstart
from rapo_ray.data.rows import LoadedSource
from rapo_ray.data.star1 import load_star1
from rapo_ray.data.strata_sword import load_strata_sword

Kind = Literal["quickstart", "quickstart-heldout", "star1", "stratasword", "math500", "file"]

PACKAGED: tuple[Kind, ...] = ("quickstart", "quickstart-heldout")


class SourceConfig(BaseModel):
    """Where one source's prompts come from."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    """The reader: a packaged set, a published dataset as its publisher ships it, or `file` for one's own table."""

    path: Path | None = None
    """The file; for `stratasword` one level file or the folder of all three. The packaged sets take none."""

    text_column: str = "text"
    """For `file`: the column of the prompts."""

    harmful: bool | None = None
    """For `file`: the label of every row, where the file has no `harmful` column."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind in PACKAGED and self.path is not None:
            raise ValueError(f"source of kind {self.kind!r} ships with the package; remove its path {self.path}")
        if self.kind not in PACKAGED and self.path is None:
            raise ValueError(f"source of kind {self.kind!r} needs a path")
        # Compared with the defaults, not with what was set: a dumped config sets every field and must load again.
        if self.kind != "file" and (self.text_column != "text" or self.harmful is not None):
            raise ValueError(f"source of kind {self.kind!r} has its own columns; remove text_column and harmful")
        return self

    @property
    def file(self) -> Path:
        """The path, which a kind that is not packaged always has."""
        assert self.path is not None
        return self.path


Loader = Callable[[str, SourceConfig, float], LoadedSource]

LOADERS: dict[Kind, Loader] = {
    "quickstart": lambda name, config, share: load_quickstart(name, "train", share),
    "quickstart-heldout": lambda name, config, share: load_quickstart(name, "heldout", share),
    "star1": lambda name, config, share: load_star1(name, config.file, share),
    "stratasword": lambda name, config, share: load_strata_sword(name, config.file, share),
    "math500": lambda name, config, share: load_math500(name, config.file, share),
    "file": lambda name, config, share: load_file(name, config.file, config.text_column, config.harmful, share),
}


def load_source(name: str, config: SourceConfig, max_bad_share: float) -> LoadedSource:
    """Read a source whole, in file order, ids starting with `name/`; raises DataError."""
    return LOADERS[config.kind](name, config, max_bad_share)
