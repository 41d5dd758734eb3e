"""Cached judgements: each question is asked once, by content, and only verdicts are cached."""

import asyncio
import os
from pathlib import Path

import pytest

from rapo_ray.judging.ask import Ask, JudgeSettings
from rapo_ray.judging.cache import CachedAsk, JudgementStore, judgement_key
from rapo_ray.judging.llm import LlmJudge
from rapo_ray.judging.questions import Field, JudgeFailure, Question, Reply, make_question, read_reply
from rapo_ray.types import Completion, Form, Status
from tests.make import make_prompt

pytestmark = pytest.mark.unit

LEVEL = Field("level", (1, 2, 3))


def question(text: str) -> Question:
    return make_question("How deep?", [LEVEL], "choice", request=text)


class Counting:
    """An `Ask` that replies level 2, slowly enough for concurrent calls."""

    def __init__(self, reply: str = '{"level": 2}') -> None:
        self.calls = 0
        self.reply = reply

    async def __call__(self, question: Question) -> Reply:
        self.calls += 1
        await asyncio.sleep(0.01)
        return Reply(self.reply, 50, (0.1, 0.8, 0.1))


def cached(ask: Ask, folder: Path, name: str = "judge-risk-0", identity: str = "vllm:m@1") -> CachedAsk:
    return CachedAsk(ask, JudgementStore(folder, name), identity, read_reply)


def test_the_same_question_is_asked_once_and_costs_once(tmp_path: Path) -> None:
    ask = Counting()

    async def play() -> list[Reply]:
        through = cached(ask, tmp_path)
        at_once = await asyncio.gather(*(through(question("a")) for _ in range(4)))
        return [*at_once, await through(question("a")), await through(question("b"))]

    replies = asyncio.run(play())
    assert ask.calls == 2
    assert sorted(reply.tokens for reply in replies) == [0, 0, 0, 0, 50, 50]
    assert {reply.text for reply in replies} == {'{"level": 2}'}


def test_another_process_another_actor_and_another_run_ask_nothing_again(tmp_path: Path) -> None:
    asyncio.run(cached(Counting(), tmp_path, "judge-risk-0")(question("a")))
    ask = Counting()
    reply = asyncio.run(cached(ask, tmp_path, "judge-risk-1")(question("a")))
    assert (ask.calls, reply) == (0, Reply('{"level": 2}', 0, (0.1, 0.8, 0.1)))


@pytest.mark.parametrize("identity", ["vllm:m@2", "vllm:n@1"])
def test_another_judge_or_revision_is_asked_itself(tmp_path: Path, identity: str) -> None:
    asyncio.run(cached(Counting(), tmp_path)(question("a")))
    ask = Counting()
    asyncio.run(cached(ask, tmp_path, identity=identity)(question("a")))
    assert ask.calls == 1


def test_another_rubric_or_style_is_another_question(tmp_path: Path) -> None:
    ask = Counting()

    async def play() -> None:
        through = cached(ask, tmp_path)
        await through(question("a"))
        await through(make_question("How deep really?", [LEVEL], "choice", request="a"))
        await through(make_question("How deep?", [LEVEL], "text", request="a"))

    asyncio.run(play())
    assert ask.calls == 3


def test_only_verdicts_are_cached(tmp_path: Path) -> None:
    ask = Counting("maybe 2")
    for _ in range(2):
        with pytest.raises(JudgeFailure):
            asyncio.run(cached(ask, tmp_path)(question("a")))
    assert ask.calls == 2


def test_a_torn_line_costs_one_judgement(tmp_path: Path) -> None:
    asyncio.run(cached(Counting(), tmp_path)(question("a")))
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + '{"key": "0123", "te')
    ask = Counting()
    asyncio.run(cached(ask, tmp_path)(question("a")))
    assert ask.calls == 0


def test_a_caller_that_shares_a_call_times_out_with_it(tmp_path: Path) -> None:
    async def hang(question: Question) -> Reply:
        await asyncio.sleep(3600)
        raise AssertionError

    async def play() -> list[Status]:
        judge = LlmJudge(cached(hang, tmp_path), JudgeSettings("j", timeout=0.05))
        completion = Completion(Form.OK, "A trace.", "A trace.", "An answer.")
        verdicts = await asyncio.gather(*(judge.judge(make_prompt(0), completion) for _ in range(3)))
        return [verdict.status for verdict in verdicts]

    assert asyncio.run(play()) == [Status.TIMEOUT] * 3


def test_a_full_disk_costs_the_record_and_not_the_verdict(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask = Counting()

    async def play() -> list[Reply]:
        through = CachedAsk(ask, _store_over_full_disk(tmp_path), "j", read_reply)
        return [await through(question("a")), await through(question("a"))]

    assert [reply.text for reply in asyncio.run(play())] == ['{"level": 2}'] * 2
    assert ask.calls == 1
    assert "cannot cache a judgement" in caplog.text


def _store_over_full_disk(folder: Path) -> JudgementStore:
    store = JudgementStore(folder / "elsewhere", "judge-risk-0")
    (folder / "judge-risk-0.jsonl").symlink_to("/dev/full")
    store._path = folder / "judge-risk-0.jsonl"
    return store


def key(number: int) -> str:
    return judgement_key("judge", question(str(number)))


def test_a_cache_is_read_line_by_line_and_not_into_memory(tmp_path: Path) -> None:
    writer = JudgementStore(tmp_path, "judge-risk-0", file_bytes=2000)
    for number in range(100):
        writer.put(key(number), Reply(f"reply {number}", number, (0.5, number / 7)))
    assert len(list(tmp_path.iterdir())) > 3
    reader = JudgementStore(tmp_path, "judge-risk-1")
    for store in (writer, reader):
        assert [store.get(key(number)) for number in (0, 57, 99)] == [
            Reply(f"reply {number}", number, (0.5, number / 7)) for number in (0, 57, 99)
        ]
        assert store.get(key(100)) is None
    again = JudgementStore(tmp_path, "judge-risk-0", file_bytes=2000)
    again.put(key(100), Reply("one more", 1))
    assert (again.get(key(100)), again.get(key(3))) == (Reply("one more", 1), Reply("reply 3", 3, (0.5, 3 / 7)))


def test_the_cache_is_bounded_and_the_oldest_files_go_first(tmp_path: Path) -> None:
    store = JudgementStore(tmp_path, "judge-risk-0", file_bytes=1000)
    for number in range(60):
        store.put(key(number), Reply("r", 1))
    for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (age, age))
    reader = JudgementStore(tmp_path, "judge-risk-1", max_bytes=3000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert reader.get(key(0)) is None
    assert reader.get(key(59)) == Reply("r", 1)
    assert store.get(key(0)) is None  # its file is gone: asked again, no error


def test_a_torn_line_is_no_reply(tmp_path: Path) -> None:
    (tmp_path / "judge-risk-0.jsonl").write_text(f'{{"key": "{key(1)}", "te')
    store = JudgementStore(tmp_path, "judge-risk-0")
    store.put(key(2), Reply("r", 1))
    for opened in (store, JudgementStore(tmp_path, "judge-risk-1")):
        assert opened.get(key(2)) == Reply("r", 1)
        assert opened.get(key(1)) is None


def test_a_line_after_a_failed_one_is_whole(tmp_path: Path) -> None:
    store = _store_over_full_disk(tmp_path)
    store.put(key(1), Reply("r", 1))
    store._path = tmp_path / "elsewhere" / "judge-risk-0.jsonl"
    store._path.write_text(f'{{"key": "{key(1)}", "te')
    store.put(key(2), Reply("r", 2))
    store.put(key(3), Reply("r", 3))
    for opened in (store, JudgementStore(tmp_path / "elsewhere", "judge-risk-1")):
        assert [opened.get(key(number)) for number in (2, 3)] == [Reply("r", 2), Reply("r", 3)]


def test_two_stores_of_one_name_do_not_mix_their_lines(tmp_path: Path) -> None:
    stores = [JudgementStore(tmp_path, "judge-risk-0") for _ in range(2)]
    for number in range(10):
        stores[number % 2].put(key(number), Reply("r", number))
    for store, first in zip(stores, (0, 1), strict=True):
        assert [store.get(key(number)) for number in range(first, 10, 2)] == [
            Reply("r", number) for number in range(first, 10, 2)
        ]
    assert JudgementStore(tmp_path, "judge-risk-0").get(key(9)) == Reply("r", 9)


@pytest.mark.parametrize("text", ["", "x\n", "{}\n" * 9, '{"key": "zz' + "z" * 40 + '"}\n', "\x00" * 99])
def test_a_strange_file_beside_the_others_costs_nothing(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    JudgementStore(tmp_path, "judge-risk-0").put(key(1), Reply("r", 1))
    (tmp_path / "other.jsonl").write_text(text)
    assert JudgementStore(tmp_path, "judge-risk-1").get(key(1)) == Reply("r", 1)
    assert ("unreadable judgement(s) skipped" in caplog.text) is bool(text)


def test_a_line_whose_key_only_begins_alike_is_another_question(tmp_path: Path) -> None:
    store = JudgementStore(tmp_path, "judge-risk-0")
    store.put("ab" * 16, Reply("r", 1))
    assert JudgementStore(tmp_path, "judge-risk-1").get("ab" * 15 + "ac") is None
    assert JudgementStore(tmp_path, "judge-risk-1").get("ab" * 16) == Reply("r", 1)
