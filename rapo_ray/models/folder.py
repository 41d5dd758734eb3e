"""A model's folder: its required files, and a fingerprint of its content."""

import hashlib
from pathlib import Path

from rapo_ray.errors import ModelError

PIECES = 256  # of a large file in its fingerprint
PIECE_BYTES = 1 << 16
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
    """A short hash of a model's content: names and sizes of its files, and pieces from all over each of them.

    Pieces make up the whole of a small file. Of a large one, weights that some training left as they were stand at its
    beginning, for instance the embeddings. Notes and hidden files are no content.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.suffix == ".md" or path.name.startswith("."):
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\x1f{size}\x1f".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(PIECE_BYTES, size // PIECES)):
                file.seek(start)
                digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()[:12]


def one_line(text: str, limit: int = 300) -> str:
    """The first non-blank line of a text, cut at `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= limit else line[:limit] + "..."
