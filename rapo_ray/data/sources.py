"""The table of readers, one for each kind of source."""

from collections.abc import Callable
from pathlib import Path

from rapo_ray.config.sources import PACKAGED, Kind, SourceConfig
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
    """Read a whole source in file order, with ids that start with `name/`; raises DataError."""
    if config.kind in PACKAGED:
        return load_quickstart(name, "heldout" if config.kind == "quickstart-heldout" else "train", max_bad_share)
    if config.kind == "file":
        return load_file(name, file_of(config), config.text_column, config.harmful, max_bad_share)
    return PUBLISHED[config.kind](name, file_of(config), max_bad_share)


def file_of(config: SourceConfig) -> Path:
    """Local path of a source's file, downloaded first if it is on the hub; not for packaged kinds. Raises DataError."""
    assert config.path is not None
    if config.hub is None or config.revision is None:
        return config.path
    return fetch(config.hub, config.path.as_posix(), config.revision)
