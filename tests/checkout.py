"""A copy of this checkout, as a fresh clone has it, for tests that build from it or write into it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("runs", "shared", "site", "build", "dist", "__pycache__", "*.egg-info", "*.pyc")


def copy_checkout(folder: Path) -> Path:
    """Copy the sources, without the environments, caches and results that git ignores."""

    def left_out(directory: str, names: list[str]) -> set[str]:
        ignored = shutil.ignore_patterns(*LEFT_OUT)(directory, names)
        return ignored | {name for name in names if name.startswith(".") and Path(directory) == ROOT}

    return Path(shutil.copytree(ROOT, folder, ignore=left_out))
