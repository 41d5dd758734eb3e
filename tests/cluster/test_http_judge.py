"""The HTTP judge against a real, scripted server: transient errors are retried, others are failures, never scores."""

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster import ray_cluster
from actors.judge import ModelJudgeActor
from actors.judge_group import JudgeGroup
from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.config.learning import CreditConfig
from rapo_ray.config.run import ClusterConfig, LimitsConfig
from rapo_ray.engines.http_chat import EndpointSettings
from rapo_ray.errors import ConfigError, EngineError, JudgeError
from rapo_ray.judging.ask import JudgeSettings
from rapo_ray.judging.backends import JudgeSpec
from rapo_ray.judging.guards.judge import GuardJudge
from rapo_ray.judging.http import HttpAsk, HttpSettings, check_url, read_token
from rapo_ray.judging.llm import LlmJudge
from rapo_ray.judging.questions import Field, JudgeFailure, Question, Reply, Style, make_question
from rapo_ray.models.chat import PLAIN
from rapo_ray.orchestrator.collect import collect_groups
from rapo_ray.orchestrator.round import check_failures
from rapo_ray.reward.credit import assign_credit
from rapo_ray.roles import Inference
from rapo_ray.types import Group, Prompt, Rollout, Status
from tests.judge_server import Script, Scripted, completion, judge_server, probed
from tests.make import make_prompt

pytestmark = pytest.mark.cluster  # a server, and Ray for the whole path

REFUSES = Field("refuses", (True, False))
YES = completion('{"refuses": true}')


def question(style: Style = "choice") -> Question:
    return make_question("Does it refuse?", [REFUSES], style, answer="No.")


def ask(script: Script, style: Style = "choice", **settings: Any) -> tuple[Reply, list[float]]:
    """One reply of a scripted server, and the waits between tries in seconds (skipped)."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with judge_server(script) as server:
        through = HttpAsk(HttpSettings(EndpointSettings(server.url, **settings), "m"), sleep=sleep)
        return asyncio.run(through(question(style))), waits


def after(count: int, bad: Scripted, good: Scripted = YES) -> Script:
    return lambda body, before: bad if before < count else good


@pytest.mark.fault(9)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_error_is_retried_with_growing_waits(status: int) -> None:
    reply, waits = ask(after(3, Scripted(status=status)))
    assert reply == Reply('{"refuses": true}', 10)
    assert len(waits) == 3
    for attempt, wait in enumerate(waits):
        assert 0.25 * 2**attempt <= wait <= 0.75 * 2**attempt  # back-off 0.5 s, doubled, with jitter


@pytest.mark.fault(9)
def test_retry_after_is_obeyed_up_to_a_minute() -> None:
    assert ask(after(1, Scripted(status=429, headers={"Retry-After": "7"})))[1] == [7.0]
    assert ask(after(1, Scripted(status=503, headers={"Retry-After": "86400"})))[1] == [60.0]
    assert ask(after(1, Scripted(status=503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})))[1] == [1.0]


@pytest.mark.fault(9)
def test_giving_up_names_the_number_of_calls() -> None:
    with pytest.raises(EngineError, match=r"HTTP 500 after 3 call\(s\)"):
        ask(after(99, Scripted(status=500)), retries=2)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 422])
def test_a_permanent_error_is_not_retried_and_no_redirect_is_followed(status: int) -> None:
    def script(body: dict[str, Any], before: int) -> Scripted:
        assert before == 0
        return Scripted(status=status, headers={"Location": "/elsewhere"})

    with pytest.raises(EngineError, match=rf"HTTP {status} after 1 call"):
        ask(script)


GARBAGE = [
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b'{"choices": []}',
    b'{"choices": [{"message": {"content": 7}}]}',
    b"\xff\xfe",
    b"[" * 9999,
]


@pytest.mark.fault(9)
@pytest.mark.parametrize("body", GARBAGE)
def test_a_reply_that_is_no_chat_completion_is_a_parse_failure(body: bytes) -> None:
    with pytest.raises(JudgeFailure) as failure:
        ask(after(99, Scripted(body)))
    assert failure.value.status is Status.PARSE


@pytest.mark.fault(9)
def test_a_flood_is_cut_off() -> None:
    with pytest.raises(JudgeFailure, match="more than 1048576 bytes"):
        ask(after(99, Scripted(b"x" * (10 << 20))))


def test_a_reply_cut_at_its_limit_is_truncated() -> None:
    reply, _ = ask(after(0, YES, completion('{"ref', finish="length")))
    assert reply.truncated


@pytest.mark.fault(9)
@pytest.mark.parametrize("bad", [Scripted(YES.body, delay=30), Scripted(YES.body, drip=1)])
def test_a_hang_and_a_drip_end_at_the_deadline(bad: Scripted) -> None:
    with judge_server(after(99, bad)) as server:
        judge = LlmJudge(HttpAsk(HttpSettings(EndpointSettings(server.url), "m")), JudgeSettings("http:m", timeout=0.3))
        verdict = asyncio.run(judge.judge(make_prompt(harmful=True), _whole(), ("general",)))
    assert (verdict.status, verdict.scorable, verdict.detail) == (Status.TIMEOUT, False, "no reply in 0.3 s")


def test_nobody_listens() -> None:
    with pytest.raises(EngineError, match="ConnectError"):
        asyncio.run(HttpAsk(HttpSettings(EndpointSettings("http://127.0.0.1:9/v1", retries=0), "m"))(question()))


def test_what_is_sent_constrains_the_reply_and_carries_the_token() -> None:
    with judge_server(after(0, YES)) as server:
        through = HttpAsk(HttpSettings(EndpointSettings(server.url, token="s3cret"), "m"))
        asyncio.run(through(question()))
        (body,) = server.requests
        assert server.headers[0]["authorization"] == "Bearer s3cret"
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"refuses": {"enum": [True, False]}}
    assert (schema["required"], schema["additionalProperties"]) == (["refuses"], False)
    assert body["temperature"] == 0


def test_labels_are_read_with_their_probabilities() -> None:
    answer = completion("B", finish="length", logprobs={"B": -0.1, "A": -2.1, " the": -3.0})
    reply, _ = ask(after(0, YES, answer), style="label")
    assert reply.text == "B"
    assert reply.probabilities == pytest.approx((0.1192, 0.8808), abs=1e-4)


def test_a_guard_of_one_token_is_read_with_its_probability() -> None:
    log = {"Yes": math.log(0.2), " Yes": math.log(0.1), "No": math.log(0.6), "Perhaps": math.log(0.1)}
    with judge_server(after(0, YES, completion("No", finish="length", logprobs=log))) as server:
        through = HttpAsk(HttpSettings(EndpointSettings(server.url), "m"))
        judge = GuardJudge(through, JudgeSettings("http:m"), "granite_guardian_3")
        verdict = asyncio.run(judge.judge(make_prompt(harmful=True), _whole()))
        (body,) = server.requests
    assert (verdict.status, verdict.general) == (Status.OK, 1.0)
    assert verdict.general_score == pytest.approx(2 / 3)
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant"]


def test_no_more_calls_at_once_than_allowed() -> None:
    slow = Scripted(YES.body, delay=0.05)
    with judge_server(after(99, slow)) as server:
        through = HttpAsk(HttpSettings(EndpointSettings(server.url, concurrency=3), "m"))

        async def many() -> None:
            await asyncio.gather(*(through(question()) for _ in range(12)))

        asyncio.run(many())
        assert len(server.requests) == 12
        assert server.most_at_once <= 3


def test_the_rate_limit_is_obeyed() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def three(url: str) -> None:
        through = HttpAsk(HttpSettings(EndpointSettings(url, per_minute=60), "m"), sleep=sleep)
        for _ in range(3):
            await through(question())

    with judge_server(after(0, YES)) as server:
        asyncio.run(three(server.url))
    assert len(waits) == 2
    assert 0.5 < waits[0] <= 1.0 and 1.0 < waits[1] <= 2.0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://judge.example/v1", "not an http"),
        ("judge.example", "not an http"),
        ("http://user:pw@127.0.0.1/v1", "user or password"),
        ("http://127.0.0.1:8000/v1", "private network"),
        ("http://169.254.169.254/latest", "private network"),
        ("http://[::1]/v1", "private network"),
        ("http://10.0.0.7/v1", "private network"),
        ("http://8.8.8.8/v1", "clear text"),
    ],
)
def test_addresses_that_a_judge_may_not_have(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        check_url(url, allow_private=False)
    assert "pw@" not in str(error.value)


def test_a_private_judge_is_allowed_in_words() -> None:
    check_url("http://127.0.0.1:8000/v1", allow_private=True)
    check_url("https://8.8.8.8/v1", allow_private=False)


def test_a_token_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    assert read_token(path) == "s3cret"
    path.write_text("s3cret and more")
    with pytest.raises(ConfigError, match="one token") as error:
        read_token(path)
    assert "s3cret" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot read"):
        read_token(tmp_path / "none")


SAMPLES, PROMPTS = 8, 6


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster(ClusterConfig(device="cpu")):
        yield


def _whole() -> Any:
    from rapo_ray.models.chat import parse_completion

    return parse_completion(_text("0.0"), False)


def _text(key: str) -> str:
    return f"<think>\nThe user asks for thing {key}. There is a risk of harm.\n</think>\n\nI can't help with {key}."


class Engines:
    """Engines whose completions contain their own group and sample."""

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[list[Rollout]]:
        for group, prompt in enumerate(prompts_P):
            for sample in samples:
                text = _text(f"{group}.{sample}")
                yield [Rollout(group, prompt.id, sample, (1,), (2,), (-0.1,), text, False, 0, "e")]


def failing(share: float) -> Script:
    """A judge by the key in the material that fails for the given share of the completions, in four ways."""

    def script(body: dict[str, Any], before: int) -> Scripted:
        user = body["messages"][1]["content"]
        key = user.rpartition(" begins\n")[2].split("thing ")[1].split(". ")[0]
        group, sample = map(int, key.split("."))
        number = group * SAMPLES + sample
        if number * 7 % (SAMPLES * PROMPTS) < share * SAMPLES * PROMPTS:
            kinds = [
                Scripted(status=500),
                Scripted(status=429, headers={"Retry-After": "0"}),
                Scripted(YES.body, delay=20),
                completion("<score>1</score>"),
            ]
            return kinds[number % 4]
        good = (number * 5 + group) % 3 > 0
        return completion(json.dumps({"only_safety_analysis": good, "decision": "none", "refuses": number % 2 == 0}))

    return script


def judged(script: Script, url_of: list[str]) -> tuple[Group, ...]:
    with judge_server(probed(script)) as server:
        url_of.append(server.url)
        backend = JudgeBackendConfig(
            backend="http", model="m", url=server.url, allow_private=True, retries=1, timeout=3, concurrency=64
        )
        spec = JudgeSpec(backend, "split", "r", None, None)
        actor = (
            ray.remote(ModelJudgeActor).options(num_cpus=0.1, max_concurrency=100).remote("judge-risk-0", spec, PLAIN)
        )
        ray.get(actor.ready.remote())
        group = JudgeGroup([actor], [], LimitsConfig(judge=60))
        prompts = [make_prompt(number, harmful=True, level=1) for number in range(PROMPTS)]
        try:
            return collect_groups(Inference(Engines(), group), prompts, range(SAMPLES), 1, lambda done, total: None)
        finally:
            ray.kill(actor)


@pytest.mark.fault(9)
@pytest.mark.parametrize("scheme", ["grpo", "dr_grpo", "rloo", "gdpo", "gated"])
def test_advantages_are_those_of_the_surviving_rows_alone(
    cluster: None, scheme: Any, broken: tuple[Group, ...]
) -> None:
    failed = sum(not sample.verdict.scorable for group in broken for sample in group.samples_G)
    assert 0.25 <= failed / (SAMPLES * PROMPTS) <= 0.35
    check_failures(broken, budget=0.5)
    config = CreditConfig(scheme=scheme)

    def survivors(group: Group) -> Group:
        return Group(group.prompt, tuple(s for s in group.samples_G if s.verdict.scorable))

    with_failures = assign_credit(broken, config)
    without = assign_credit([survivors(group) for group in broken], config)
    for left, right in zip(with_failures, without, strict=True):
        advantages = [sample.advantage for sample in left.samples_G if sample.verdict.scorable]
        assert advantages == [sample.advantage for sample in right.samples_G]
        assert all(s.advantage is None and s.reward is None for s in left.samples_G if not s.verdict.scorable)
    assert any(sample.advantage for group in with_failures for sample in group.samples_G)


@pytest.fixture(scope="module")
def broken(cluster: None) -> tuple[Group, ...]:
    """A round in which 30 % of the verdicts failed."""
    return judged(failing(0.3), [])


def test_every_way_of_failing_has_its_status(broken: tuple[Group, ...]) -> None:
    statuses = {sample.verdict.status for group in broken for sample in group.samples_G}
    assert statuses == {Status.OK, Status.TRANSPORT, Status.TIMEOUT, Status.PARSE}


@pytest.mark.fault(9)
def test_over_the_budget_the_round_stops_and_says_so(cluster: None) -> None:
    groups = judged(failing(0.6), [])
    with pytest.raises(JudgeError, match=r"of 48 verdicts failed \(.*\), more than judge.failure_budget=0.5"):
        check_failures(groups, budget=0.5)
