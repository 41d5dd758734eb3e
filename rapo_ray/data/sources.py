"""Sources as the config names them: which reader, which file, which columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rapo_ray.data.generic import load_file
from rapo_ray.data.gsm8k import load_gsm8k
from rapo_ray.data.harmbench import load_harmbench
from rapo_ray.data.hub import fetch
from rapo_ray.data.jailbreak_artifacts import load_jailbreak_artifacts
from rapo_ray.data.jailbreakbench import load_jailbreakbench
from rapo_ray.data.math500 import load_math500
from rapo_ray.data.mmlu_pro import load_mmlu_pro
from rapo_ray.data.or_bench import load_or_bench
from rapo_ray.data.quickstart_set import load_quickstart
from rapo_ray.data.rows import LoadedSource
from rapo_ray.data.sorry_bench import load_sorry_bench
from rapo_ray.data.star1 import load_star1
from rapo_ray.data.star_benign import load_star_benign
from rapo_ray.data.strata_sword import load_strata_sword
from rapo_ray.data.strongreject import load_strongreject
from rapo_ray.data.wildjailbreak import load_wildjailbreak
from rapo_ray.data.xstest import load_xstest

Kind = Literal[
    "quickstart", "quickstart-heldout", "file",
    "star1", "star-benign", "stratasword", "wildjailbreak", "sorry-bench", "jailbreakbench", "jbb-artifacts",
    "harmbench", "strongreject", "xstest", "or-bench", "math500", "gsm8k", "mmlu-pro",
]  # fmt: skip

PACKAGED: tuple[Kind, ...] = ("quickstart", "quickstart-heldout")


class SourceConfig(BaseModel):
    """Where one source's prompts come from."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

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

    def file(self) -> Path:
        """The local file, fetched from the hub where it comes from there; not for packaged kinds. Raises DataError."""
        assert self.path is not None
        if self.hub is None or self.revision is None:
            return self.path
        return fetch(self.hub, self.path.as_posix(), self.revision)


PUBLISHED: dict[Kind, Callable[[str, Path, float], LoadedSource]] = {
    "star1": load_star1,
    "star-benign": load_star_benign,
    "stratasword": load_strata_sword,
    "wildjailbreak": load_wildjailbreak,
    "sorry-bench": load_sorry_bench,
    "jailbreakbench": load_jailbreakbench,
    "jbb-artifacts": load_jailbreak_artifacts,
    "harmbench": load_harmbench,
    "strongreject": load_strongreject,
    "xstest": load_xstest,
    "or-bench": load_or_bench,
    "math500": load_math500,
    "gsm8k": load_gsm8k,
    "mmlu-pro": load_mmlu_pro,
}


def load_source(name: str, config: SourceConfig, max_bad_share: float) -> LoadedSource:
    """Read a source whole, in file order, ids starting with `name/`; raises DataError."""
    if config.kind in PACKAGED:
        return load_quickstart(name, "heldout" if config.kind == "quickstart-heldout" else "train", max_bad_share)
    if config.kind == "file":
        return load_file(name, config.file(), config.text_column, config.harmful, max_bad_share)
    return PUBLISHED[config.kind](name, config.file(), max_bad_share)
