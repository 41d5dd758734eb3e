"""Cached judgements: a judge answers the same question once, across this run, its resumptions and other runs.

The key covers the judge, its revision and the whole question, rubric and material included. Every judge actor appends
to files of its own and finds the replies in all files, so nothing needs a lock and a torn line costs one judgement. In
memory are only the places of the replies, so that a large cache opens fast; the oldest files go where it is too large.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rapo_ray.judging.ask import Ask
from rapo_ray.judging.questions import Question, Reply

log = logging.getLogger(__name__)

MAX_BYTES = 512 << 20  # of all files; older ones are deleted at a start
FILE_BYTES = 32 << 20  # of a file to which no more is appended
BEGIN = b'{"key": "'  # of every line, before the key
HEAD = 16  # hex digits of a key that are looked up; the whole key is compared in its line
LINES_AT_ONCE = 100_000

Place = tuple[Path, int]  # file, and the offset of a line


class JudgementStore:
    """Replies by key in append-only files below `folder`, of at most about `max_bytes`."""

    def __init__(self, folder: Path, name: str, max_bytes: int = MAX_BYTES, file_bytes: int = FILE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file_bytes = file_bytes
        self._numbered = (folder / (f"{name}.{n}.jsonl" if n else f"{name}.jsonl") for n in range(1 << 31))
        self._path = self._next_file()
        _prune(folder, max_bytes, self._path)
        self._index = _Index(sorted(folder.glob("*.jsonl")))
        self._written: dict[str, Place] = {}
        self._unwritten: dict[str, Reply] = {}  # a full disk

    def get(self, key: str) -> Reply | None:
        """The cached reply, or None."""
        if (reply := self._unwritten.get(key)) is not None:
            return reply
        own = self._written.get(key)
        places = [own] if own is not None else self._index.places(key)
        return next((reply for place in places if (reply := _read_reply(place, key)) is not None), None)

    def put(self, key: str, reply: Reply) -> None:
        """Cache a reply; a full disk costs the record, not the run."""
        line = json.dumps({"key": key, **asdict(reply)}).encode() + b"\n"
        try:
            with self._path.open("ab") as file:
                offset = file.tell()
                if offset and not _ends_a_line(self._path):
                    offset += file.write(b"\n")
                file.write(line)
        except OSError as error:
            log.warning("cannot cache a judgement in %s: %s", self._path, error)
            self._unwritten[key] = reply
            return
        self._written[key] = (self._path, offset)
        if offset + len(line) > self._file_bytes:
            self._path = self._next_file()

    def _next_file(self) -> Path:
        return next(path for path in self._numbered if not path.is_file() or path.stat().st_size <= self._file_bytes)


class _Index:
    """The places of all lines by the head of their key, in arrays of 18 bytes a line."""

    def __init__(self, paths: list[Path]) -> None:
        import numpy as np

        self._paths = paths
        heads, offsets = zip(*map(_heads_of, paths), strict=True) if paths else ((), ())
        empty = np.empty(0, np.uint64)
        every = np.concatenate([empty, *heads])
        order = np.argsort(every, kind="stable")
        self._heads = every[order]
        self._offsets = np.concatenate([np.empty(0, np.int64), *offsets])[order]
        self._files = np.repeat(np.arange(len(paths), dtype=np.uint16), [len(one) for one in heads])[order]

    def places(self, key: str) -> Iterator[Place]:
        """Places of lines that may have the key."""
        import numpy as np

        head = np.uint64(int(key[:HEAD], 16))
        first, last = (int(np.searchsorted(self._heads, head, side)) for side in ("left", "right"))
        for at in range(first, last):
            yield self._paths[int(self._files[at])], int(self._offsets[at])


def _heads_of(path: Path) -> tuple[Any, Any]:
    """Heads of the keys of a file's lines, and the lines' offsets; lines without a key are left out."""
    import numpy as np

    try:
        data = np.fromfile(path, np.uint8)
    except OSError:  # another process has just deleted it
        data = np.empty(0, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])
    torn = int(starts[-1] < len(data))  # a last line without an end
    lines, starts = len(ends), starts[:-1]
    starts = starts[ends - starts > len(BEGIN) + HEAD]
    digits = np.full(256, 255, np.uint8)
    digits[list(b"0123456789abcdef")] = np.arange(16)
    heads, offsets = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for first in range(0, len(starts), LINES_AT_ONCE):
        some = starts[first : first + LINES_AT_ONCE]
        begin = data[some[:, None] + np.arange(len(BEGIN))] == np.frombuffer(BEGIN, np.uint8)
        values = digits[data[some[:, None] + np.arange(len(BEGIN), len(BEGIN) + HEAD)]]
        right = begin.all(axis=1) & (values < 16).all(axis=1)
        shifts = np.arange(4 * HEAD - 4, -4, -4, dtype=np.uint64)
        heads.append((values[right].astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64))
        offsets.append(some[right])
    found_heads, found_offsets = np.concatenate(heads), np.concatenate(offsets)
    if torn := torn + lines - len(found_heads):
        log.warning("%s: %d unreadable judgement(s) skipped; they are asked again", path, torn)
    return found_heads, found_offsets


def _read_reply(place: Place, key: str) -> Reply | None:
    """The reply in a line; None where that is broken, of another key, or gone."""
    path, offset = place
    try:
        with path.open("rb") as file:
            file.seek(offset)
            row = json.loads(file.readline())
        if row["key"] != key:
            return None
        values = row["probabilities"]
        probabilities = None if values is None else tuple(float(value) for value in values)
        return Reply(str(row["text"]), int(row["tokens"]), probabilities)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def _prune(folder: Path, max_bytes: int, current: Path) -> None:
    """Delete the files that were written to longest ago until the others are within the limit."""
    sizes = {}
    for path in folder.glob("*.jsonl"):
        with suppress(OSError):
            sizes[path] = (path.stat().st_mtime_ns, path.stat().st_size)
    total = sum(size for _, size in sizes.values())
    for path in sorted(sizes, key=lambda path: sizes[path]):
        if total <= max_bytes:
            return
        if path != current:
            path.unlink(missing_ok=True)
            total -= sizes[path][1]


class CachedAsk:
    """An `Ask` with a cache: a cached judgement costs no tokens, and concurrent equal questions share one call."""

    def __init__(
        self, ask: Ask, store: JudgementStore, identity: str, read: Callable[[Question, Reply], object]
    ) -> None:
        """Wrap `ask`; `identity` names judge and revision, `read` raises for a reply that may not be cached."""
        self._ask = ask
        self._read = read
        self._store = store
        self._identity = identity
        self._running: dict[str, asyncio.Task[Reply]] = {}

    async def __call__(self, question: Question) -> Reply:
        """The reply, cached or new; only replies that can be read as verdicts are cached."""
        key = judgement_key(self._identity, question)
        if (cached := self._store.get(key)) is not None:
            return replace(cached, tokens=0)
        if (running := self._running.get(key)) is not None:
            return await _share(running)
        task = asyncio.ensure_future(self._ask(question))
        self._running[key] = task
        try:
            reply = await task
        finally:
            del self._running[key]
        self._read(question, reply)
        self._store.put(key, reply)
        return reply


async def _share(running: "asyncio.Task[Reply]") -> Reply:
    try:
        return replace(await asyncio.shield(running), tokens=0)
    except asyncio.CancelledError:
        if running.cancelled():  # the first caller timed out
            raise TimeoutError from None
        raise


def judgement_key(identity: str, question: Question) -> str:
    """Hash of the judge's identity and the whole question."""
    texts = (text for message in question.messages for text in (message.role, message.content))
    parts = (identity, question.style, *texts, *question.options)
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()
