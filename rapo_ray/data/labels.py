"""Labels of datasets whose files differ only by name or folder: harmful, benign, or not to be told (pure).

The hub converts a dataset to CONFIG/SPLIT/0000.parquet, so that the file's own name says nothing.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from rapo_ray.config.sources import Kind

NEGATIONS = {"no", "non", "not", "un"}
COCONOT = {"original": True, "contrast": False, "pref": False}  # configs
OR_BENCH = {"or-bench-toxic": True, "or-bench-80k": False, "or-bench-hard-1k": False}  # configs


def jailbreakbench_label(path: Path) -> bool | None:
    """The label of a file of JBB-Behaviors: from its name, else from the folder of its split."""
    words = _words(path)
    if words & {"harmful", "benign"}:
        return _side(words, {"harmful"}, {"benign"})
    return {"harmful": True, "benign": False}.get(path.parent.name.lower())


def or_bench_label(path: Path) -> bool | None:
    """The label of a file of OR-Bench: from its name, else from the folder of its config, above that of the split."""
    words = _words(path)
    if words & {"toxic", "80k", "hard"}:
        return _side(words, {"toxic"}, {"80k", "hard"})
    configs = (folder.name.lower().replace("_", "-") for folder in list(path.parents)[:2])
    return next((OR_BENCH[config] for config in configs if config in OR_BENCH), None)


def coconot_label(path: Path) -> bool | None:
    """The label of a file of COCONOT, by its name, else by the folder of its set: false of the contrast set."""
    words = _words(path)
    if words & {"contrast", "pref", "original"}:
        return _side(words, {"original"}, {"contrast", "pref"})
    if path.stem.lower().startswith(("coconot_eval", "coconot_train", "coconot_test")):
        return True
    sets = (folder.name.lower() for folder in list(path.parents)[:2])
    return next((COCONOT[one] for one in sets if one in COCONOT), None)


def _words(path: Path) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", path.name.lower()))


def _side(words: set[str], harmful: Collection[str], benign: Collection[str]) -> bool | None:
    sides = [not words.isdisjoint(side) for side in (harmful, benign)]
    return None if all(sides) or words & NEGATIONS else sides[0]


PATH_LABELS: dict[Kind, Callable[[Path], bool | None]] = {
    "jailbreakbench": jailbreakbench_label,
    "or-bench": or_bench_label,
    "coconot": coconot_label,
}
