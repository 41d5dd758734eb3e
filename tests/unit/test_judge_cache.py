"""Cached judgements: each question is asked once, by content, and only verdicts are cached."""

import asyncio
from pathlib import Path

import pytest

from rapo_ray.judging.ask import Ask, JudgeSettings
from rapo_ray.judging.cache import CachedAsk, JudgementStore
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
    (tmp_path / "judge-risk-0.jsonl").symlink_to("/dev/full")
    ask = Counting()

    async def play() -> list[Reply]:
        through = CachedAsk(ask, _store_over_full_disk(tmp_path), "j", read_reply)
        return [await through(question("a")), await through(question("a"))]

    assert [reply.text for reply in asyncio.run(play())] == ['{"level": 2}'] * 2
    assert ask.calls == 1
    assert "cannot cache a judgement" in caplog.text


def _store_over_full_disk(folder: Path) -> JudgementStore:
    store = JudgementStore(folder / "elsewhere", "judge-risk-0")
    store._path = folder / "judge-risk-0.jsonl"
    return store
