"""Files that a policy writes into a checkpoint: their names, their writers, their checksums."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# DeepSpeed (runtime/engine.py, save_checkpoint) puts a rank's number into the name of each file of which every rank
# writes its own: optimizer shards at ZeRO 1 to 3, and in bf16 without ZeRO; parameter shards at ZeRO 3. Our random
# states do the same. Everything else is rank 0's: whole parameters below ZeRO 3, and DeepSpeed's recovery script. So
# names give each file one writer, whatever other ranks write at the same time and whatever a file system shows late.
_RANK = re.compile(r"(?:zero_pp_rank_|random-)(\d+)")


def random_state_file(rank: int) -> str:
    """Name of the file with a rank's random-number state."""
    return f"random-{rank}.safetensors"


def write_random_states(folder: Path, rank: int, states: dict[str, Any]) -> None:
    """Write a rank's random-number states (uint8 tensors [N]) under the file's own name."""
    from safetensors.torch import save

    # safetensors 0.8's save_file writes into a file with another name first, which another rank's listing may see.
    (folder / random_state_file(rank)).write_bytes(save(states))


def writer_of(name: str) -> int:
    """Rank that writes the file of a name."""
    match = _RANK.search(name)
    return int(match[1]) if match else 0


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_own_files(folder: Path, rank: int) -> dict[str, str]:
    """SHA-256 of each file below `folder` that a rank wrote, by its path below it; files are read in parallel."""
    own = sorted(path for path in folder.rglob("*") if path.is_file() and writer_of(path.name) == rank)
    with ThreadPoolExecutor() as pool:  # hashlib leaves the interpreter to other threads
        return {str(path.relative_to(folder)): sha for path, sha in zip(own, pool.map(sha256_of, own), strict=True)}
