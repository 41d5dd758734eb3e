"""Sources as the config names them: which reader, which file, which columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from rapo_ray.data.generic import load_file
from rapo_ray.data.gsm8k import load_gsm8k
from rapo_ray.data.harmbench import load_harmbench
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
    "star1", "star-benign", "stratasword", "wildjailbreak", "sorry-bench", "jailbreakbench", "harmbench",
    "strongreject", "xstest", "or-bench", "math500", "gsm8k", "mmlu-pro",
]  # fmt: skip

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


PUBLISHED: dict[Kind, Callable[[str, Path, float], LoadedSource]] = {
    "star1": load_star1,
    "star-benign": load_star_benign,
    "stratasword": load_strata_sword,
    "wildjailbreak": load_wildjailbreak,
    "sorry-bench": load_sorry_bench,
    "jailbreakbench": load_jailbreakbench,
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
        return load_file(name, config.file, config.text_column, config.harmful, max_bad_share)
    return PUBLISHED[config.kind](name, config.file, max_bad_share)
