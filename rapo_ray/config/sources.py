"""Sources of prompts as the config names them: which reader, which file, which columns."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.base import Strict

Kind = Literal[
    "quickstart", "quickstart-heldout", "file",
    "star1", "star-benign", "stratasword", "wildjailbreak", "sorry-bench", "jailbreakbench", "jbb-artifacts",
    "harmbench", "strongreject", "xstest", "or-bench", "math500", "gsm8k", "mmlu-pro",
]  # fmt: skip

PACKAGED: tuple[Kind, ...] = ("quickstart", "quickstart-heldout")


class SourceConfig(Strict):
    """Where one source's prompts come from."""

    kind: Kind
    """The reader: a packaged set, a published dataset as its publisher ships it, or `file` for one's own table."""

    path: Path | None = None
    """The file; for `stratasword` one level file or the folder of all three. The packaged sets take none."""

    hub: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
    """A Hugging Face dataset, `owner/name`, that holds the file at `path`."""

    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """For `hub`: the dataset's commit in full, so that a run can be repeated."""

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
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision go together: a dataset `owner/name`, and its commit of 40 hex digits")
        if self.hub is not None and self.path is None:
            raise ValueError(f"source of kind {self.kind!r} ships with the package; remove its hub {self.hub}")
        # Compared with the defaults, not with what was set: a dumped config sets every field and must load again.
        if self.kind != "file" and (self.text_column != "text" or self.harmful is not None):
            raise ValueError(f"source of kind {self.kind!r} has its own columns; remove text_column and harmful")
        return self
