"""Packed text files: gzip, bzip2, xz and Zstandard."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from rapo_ray.errors import DataError


def unpack(path: Path, packing: str) -> bytes:
    """The content of a file packed as its last suffix says, or of a plain one (""); raises DataError and OSError."""
    data = path.read_bytes()
    try:
        return PACKINGS[packing](data) if packing else data
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be unpacked as {packing} ({error}); pack it again") from error


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa

    with pa.input_stream(pa.py_buffer(data), compression="zstd") as stream:
        return bytes(stream.read())


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _zstd,
}
