"""The table of readers, one for each kind of source."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rapo_ray.config.sources import LABELLED, Kind, SourceConfig
from rapo_ray.data.generic import load_file
from rapo_ray.data.hub import fetch
from rapo_ray.data.jailbreak_artifacts import load_jailbreak_artifacts
from rapo_ray.data.multi_turn import load_cosafe
from rapo_ray.data.published import TABLES, load_table
from rapo_ray.data.quickstart_set import Split, load_quickstart
from rapo_ray.data.rows import LoadedSource
from rapo_ray.data.strata_sword import load_strata_sword

SPLITS: dict[Kind, Split] = {
    "quickstart": "train",
    "quickstart-validation": "validation",
    "quickstart-heldout": "heldout",
}

# The splits that published sets are measured on. JailbreakBench has no other, though it calls them by their labels.
TESTS = frozenset(("test", "eval", "harmful", "benign"))

PUBLISHED: dict[Kind, Callable[[str, Path, float], LoadedSource]] = {
    "stratasword": load_strata_sword,
    "jbb-artifacts": load_jailbreak_artifacts,
    "cosafe": load_cosafe,
    **{kind: partial(load_table, kind) for kind in TABLES},
}


def load_source(name: str, config: SourceConfig, max_bad_share: float) -> LoadedSource:
    """Read a whole source in file order, with ids that start with `name/`; raises DataError."""
    if config.kind in SPLITS:
        return load_quickstart(name, SPLITS[config.kind], max_bad_share)
    if config.kind == "file":
        return load_file(name, file_of(config), config.text_column, config.harmful, max_bad_share)
    if config.kind in LABELLED:
        return load_table(config.kind, name, file_of(config), max_bad_share, config.harmful)
    return PUBLISHED[config.kind](name, file_of(config), max_bad_share)


def is_test(config: SourceConfig | None, split: str) -> bool:
    """True of a split of a published set that figures are measured on; never of packaged sets and a user's files."""
    return config is not None and config.kind in PUBLISHED and split in TESTS


def file_of(config: SourceConfig) -> Path:
    """Local path of a source's file, downloaded first if it is on the hub; not for packaged kinds. Raises DataError."""
    assert config.path is not None
    if config.hub is None or config.revision is None:
        return config.path
    return fetch(config.hub, config.path.as_posix(), config.revision)
