"""A model's folder: its required files, and a fingerprint of its content."""

import hashlib
from pathlib import Path

from rapo_ray.errors import ModelError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def check_model_folder(folder: Path) -> None:
    """Raise ModelError, naming the missing files, unless the folder has a config, safetensors and a tokenizer."""
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing.append("a tokenizer (" + ", ".join(TOKENIZER_FILES[:-1]) + f" or {TOKENIZER_FILES[-1]})")
    if missing:
        raise ModelError(f"model folder {folder}: missing {', '.join(missing)}")


def fingerprint(folder: Path) -> str:
    """A short hash of a model's content: the name, size and first MiB of each of its files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name}\x1f{path.stat().st_size}\x1f".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:12]


def one_line(text: str, limit: int = 300) -> str:
    """The first non-blank line of a text, cut at `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else line[:limit] + "..."
