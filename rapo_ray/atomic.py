"""Atomic, durable writes: to a temporary file that is synced and renamed, and then the folder is synced."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a temporary file, then rename it to `path`: a kill or power cut leaves the old or the new."""
    temporary = path.with_name(f"{path.name}.tmp")
    fill(temporary)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json_atomically(path: Path, content: object) -> None:
    """Write indented JSON atomically."""
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of entries, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
