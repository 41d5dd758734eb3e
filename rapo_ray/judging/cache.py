"""Judgements that are kept: a judge is asked the same question once, in this run, its resumption and other runs.

Content-addressed by judge, revision and the whole question, which holds rubric and material. Every judge actor appends
to a file of its own and reads everybody's at its start, so nothing is locked and a torn line costs one judgement.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from rapo_ray.judging.llm import Ask
from rapo_ray.judging.questions import Question, Reply

log = logging.getLogger(__name__)


class JudgementStore:
    """Replies by key, in memory and in one append-only file below `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.jsonl"
        self._replies: dict[str, Reply] = {}
        for path in sorted(folder.glob("*.jsonl")):
            self._read(path)

    def get(self, key: str) -> Reply | None:
        """The kept reply, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; a full disk costs the record, not the run."""
        self._replies[key] = reply
        line = json.dumps({"key": key, **asdict(reply)}) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            log.warning("cannot keep a judgement in %s: %s", self._path, error)

    def __len__(self) -> int:
        return len(self._replies)

    def _read(self, path: Path) -> None:
        torn = 0
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                given = row["probabilities"]
                probabilities = None if given is None else tuple(float(value) for value in given)
                self._replies[str(row["key"])] = Reply(str(row["text"]), int(row["tokens"]), probabilities)
            except (ValueError, KeyError, TypeError):
                torn += 1
        if torn:
            log.warning("%s: %d unreadable judgement(s) passed over; they are asked again", path, torn)


class CachedAsk:
    """Asks through a store; a kept judgement costs no tokens, and two that ask the same at once share one call."""

    def __init__(
        self, ask: Ask, store: JudgementStore, identity: str, read: Callable[[Question, Reply], object]
    ) -> None:
        """Identity names judge and revision; `read` raises where a reply is no verdict, which is then not kept."""
        self._ask = ask
        self._read = read
        self._store = store
        self._identity = identity
        self._running: dict[str, asyncio.Task[Reply]] = {}

    async def __call__(self, question: Question) -> Reply:
        """The reply, kept or new; only replies that read as verdicts are kept."""
        key = judgement_key(self._identity, question)
        if (kept := self._store.get(key)) is not None:
            return replace(kept, tokens=0)
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
        if running.cancelled():  # who asked first has given up
            raise TimeoutError from None
        raise


def judgement_key(identity: str, question: Question) -> str:
    """Names a judgement by who judges and all that is asked."""
    said = (text for message in question.messages for text in (message.role, message.content))
    parts = (identity, question.style, *said, *question.options)
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()
