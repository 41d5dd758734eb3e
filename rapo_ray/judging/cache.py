"""Cached judgements: a judge answers the same question once, across this run, its resumptions and other runs.

The key covers the judge, its revision and the whole question, rubric and material included. Every judge actor appends
to its own file and reads all files at its start, so nothing needs a lock and a torn line costs one judgement.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from rapo_ray.judging.ask import Ask
from rapo_ray.judging.questions import Question, Reply
from rapo_ray.text.lines import split_lines

log = logging.getLogger(__name__)


class JudgementStore:
    """Replies by key, in memory and in an append-only file below `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.jsonl"
        self._replies: dict[str, Reply] = {}
        for path in sorted(folder.glob("*.jsonl")):
            self._read(path)

    def get(self, key: str) -> Reply | None:
        """The cached reply, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Cache a reply; a full disk costs the record, not the run."""
        self._replies[key] = reply
        line = json.dumps({"key": key, **asdict(reply)}) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            log.warning("cannot cache a judgement in %s: %s", self._path, error)

    def _read(self, path: Path) -> None:
        torn = 0
        for line in split_lines(path.read_text(encoding="utf-8", errors="replace")):
            try:
                row = json.loads(line)
                values = row["probabilities"]
                probabilities = None if values is None else tuple(float(value) for value in values)
                self._replies[str(row["key"])] = Reply(str(row["text"]), int(row["tokens"]), probabilities)
            except (ValueError, KeyError, TypeError):
                torn += 1
        if torn:
            log.warning("%s: %d unreadable judgement(s) skipped; they are asked again", path, torn)


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
