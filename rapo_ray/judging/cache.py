"""Cached judgements: a judge answers the same question once, across this run, its resumptions and other runs.

The key covers the judge, its revision and the whole question, rubric and material included. Every judge actor writes
files of its own and reads all files, so nothing needs a lock, on a network folder either, and a torn line costs one
judgement. In memory are only the places of the replies; the oldest files are deleted where there are too many bytes.
"""

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from rapo_ray.judging.ask import Ask
from rapo_ray.judging.questions import Question, Reply

log = logging.getLogger(__name__)

MAX_BYTES = 512 << 20  # of all files; older ones are deleted at a start
FILE_BYTES = 32 << 20  # of a file to which no more is appended
BEGIN = b'{"key": "'  # of every line, before the key

Offsets = dict[bytes, int]  # of a file's lines, by their key


class JudgementStore:
    """Replies by key in append-only files below `folder`, of at most about `max_bytes`."""

    def __init__(self, folder: Path, name: str, max_bytes: int = MAX_BYTES, file_bytes: int = FILE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder, max_bytes)
        self._folder, self._name, self._file_bytes = folder, name, file_bytes
        self._files = {path: _offsets(path) for path in sorted(folder.glob("*.jsonl"))}
        self._path = self._new_file()
        self._unwritten: dict[str, Reply] = {}  # a full disk

    def get(self, key: str) -> Reply | None:
        """The cached reply, or None."""
        if (reply := self._unwritten.get(key)) is not None:
            return reply
        binary = bytes.fromhex(key)
        places = ((path, offsets[binary]) for path, offsets in self._files.items() if binary in offsets)
        return next((reply for place in places if (reply := _read_reply(*place, key)) is not None), None)

    def put(self, key: str, reply: Reply) -> None:
        """Cache a reply; a full disk costs the record, not the run."""
        line = json.dumps({"key": key, **asdict(reply)}).encode() + b"\n"
        try:
            with self._path.open("ab") as file:
                offset = file.tell() + file.write(b"\n" if self._unwritten else b"")  # after a part of a line
                file.write(line)
        except OSError as error:
            log.warning("cannot cache a judgement in %s: %s", self._path, error)
            self._unwritten[key] = reply
            return
        self._files.setdefault(self._path, {})[bytes.fromhex(key)] = offset
        if offset + len(line) > self._file_bytes:
            self._path = self._new_file()

    def _new_file(self) -> Path:
        return self._folder / f"{self._name}.{uuid.uuid4().hex}.jsonl"


def _offsets(path: Path) -> Offsets:
    """Offsets of a file's lines by key; lines without a key or an end are left out."""
    offsets: Offsets = {}
    offset = unreadable = 0
    with suppress(OSError), path.open("rb") as file:  # another process may have deleted it
        for line in file:
            try:
                if not (line.startswith(BEGIN) and line.endswith(b"\n")):
                    raise ValueError
                offsets[bytes.fromhex(line[len(BEGIN) :].partition(b'"')[0].decode())] = offset
            except ValueError:
                unreadable += line != b"\n"
            offset += len(line)
    if unreadable:
        log.warning("%s: %d unreadable judgement(s) skipped; they are asked again", path, unreadable)
    return offsets


def _read_reply(path: Path, offset: int, key: str) -> Reply | None:
    """The reply in a line; None where that is broken, of another key, or gone."""
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


def _prune(folder: Path, max_bytes: int) -> None:
    """Delete the files that were written to longest ago until the others are within the limit."""
    sizes = {}
    for path in filter(Path.is_file, folder.glob("*.jsonl")):
        with suppress(OSError):
            sizes[path] = (path.stat().st_mtime_ns, path.stat().st_size)
    total = sum(size for _, size in sizes.values())
    for path in sorted(sizes, key=lambda path: sizes[path]):
        if total <= max_bytes:
            return
        with suppress(OSError):
            path.unlink()
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
    messages = [(message.role, message.content) for message in question.messages]
    parts = json.dumps((identity, question.style, messages, question.options))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
