"""Seeds and digests of content: work repeated after a crash gives the same, and other content is told from it."""

import hashlib
import json


def derive_seed(*key: str | int) -> int:
    """A 31-bit seed from a key such as (run seed, round, prompt id, sample)."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


def digest_of(*parts: object) -> str:
    """A short hash of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def chosen(share: float, *key: str | int) -> bool:
    """True for the given share of all keys, always the same ones."""
    return derive_seed(*key) < share * 2**31
