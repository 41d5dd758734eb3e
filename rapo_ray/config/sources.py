"""Prompt sources of the config: the reader, the file and the columns of each."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.config.base import Strict

Kind = Literal[
    "quickstart", "quickstart-validation", "quickstart-heldout", "file",
    "star1", "star-benign", "stratasword", "wildjailbreak", "sorry-bench", "jailbreakbench", "jbb-artifacts",
    "harmbench", "strongreject", "advbench", "malicious-instruct", "do-not-answer", "air-bench", "wildguardmix",
    "xstest", "or-bench", "false-reject", "coconot", "cosafe", "safemtdata", "mhj", "math500", "gsm8k", "mmlu-pro",
]  # fmt: skip

LABELLED: tuple[Kind, ...] = ("jailbreakbench", "or-bench", "coconot")  # whose rows do not say what the file's name may

PACKAGED: tuple[Kind, ...] = ("quickstart", "quickstart-validation", "quickstart-heldout")


class SourceConfig(Strict):
    """One source of prompts."""

    kind: Kind
    """Reader of the source: a packaged set, a published dataset in its original format, or `file` for any table."""

    path: Path | None = None
    """Path of the file; for `stratasword` one level's file or the folder of all three. Packaged sets take no path."""

    hub: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
    """Hugging Face dataset, `owner/name`, that contains the file at `path`; unset, the file is local."""

    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """Full commit hash of the `hub` dataset, so that the run is reproducible."""

    text_column: str = "text"
    """Column of the prompts, for kind `file` only: texts or, as in `messages`, dialogues as lists of turns."""

    harmful: bool | None = None
    """Label of every row: for kind `file` without a `harmful` column, and for files of `jailbreakbench`, `or-bench` and
    `coconot` (false for its contrast set) whose name and folder do not tell it."""

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
        if self.kind != "file" and self.text_column != "text":
            raise ValueError(f"source of kind {self.kind!r} has its own columns; remove text_column")
        if self.kind not in ("file", *LABELLED) and self.harmful is not None:
            raise ValueError(f"source of kind {self.kind!r} has its own columns and labels; remove harmful")
        return self
