"""The endpoint's pure parts: keys, rates, the guard, requests, gates and history."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rapo_ray.config.serving import EndpointLimits
from rapo_ray.errors import ConfigError, ModelError, ServingError
from rapo_ray.models.chat import PLAIN, ChatFormat
from rapo_ray.models.published import MANIFEST, read_published, write_manifest
from rapo_ray.serving.gates import check_gate
from rapo_ray.serving.guard import Guard
from rapo_ray.serving.keys import CHECK_SECONDS, KeyStore, read_keys
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.rate import RateLimit
from rapo_ray.serving.requests import ChatRequest, CompletionRequest
from rapo_ray.serving.state import Change, State, previous
from rapo_ray.serving.versions import Serving, serving_of
from tests.chat_tokenizers import family, format_of, write_folder
from tests.report_data import write_gate

pytestmark = pytest.mark.unit

KEY = "k" * 32
OTHER = "o" * 32


# --- keys -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# callers\nann: {KEY}\nbob:{OTHER}\n", encoding="utf-8")
    return path


def test_a_key_names_its_holder_and_nothing_else_passes(keys: Path) -> None:
    store = KeyStore(keys)
    assert store.holder(f"Bearer {KEY}") == "ann"
    assert store.holder(f"bearer {OTHER}") == "bob"
    for header in ("", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer \u00fc" * 9):
        assert store.holder(header) is None


def test_keys_change_with_their_file(keys: Path) -> None:
    now = 0.0
    store = KeyStore(keys, clock=lambda: now)
    keys.write_text(f"eve:{'e' * 32}\n", encoding="utf-8")
    os.utime(keys, ns=(1, 1))
    assert store.holder(f"Bearer {KEY}") == "ann"  # checked a moment ago
    now = CHECK_SECONDS
    assert store.holder(f"Bearer {KEY}") is None
    assert store.holder(f"Bearer {'e' * 32}") == "eve"


@pytest.mark.parametrize(
    "content",
    [b"", b"# ann left\n", b"nonsense", f"ann:{KEY}\nbob".encode(), f"ann:{KEY}\nbob:short".encode(),
     f"ann:{KEY}\nann:{OTHER}".encode(), b"\xff\xfe", None],
)  # fmt: skip
def test_no_key_is_valid_while_their_file_is_not_usable(
    keys: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    store = KeyStore(keys, clock=lambda: now)
    before = keys.read_bytes()
    if content is None:
        keys.unlink()
    else:
        keys.write_bytes(content)
        os.utime(keys, ns=(1, 1))
    now = CHECK_SECONDS
    assert store.holder(f"Bearer {KEY}") is None
    assert store.holder("Bearer ") is None
    assert "no key is valid" in caplog.text and KEY not in caplog.text
    keys.write_bytes(before)
    os.utime(keys, ns=(2, 2))
    now = 2 * CHECK_SECONDS
    assert store.holder(f"Bearer {KEY}") == "ann"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no key"),
        ("ann", "not `name:key`"),
        ("ann:short", "16 or more"),
        (f"a:{KEY}\na:{OTHER}", "has a key already"),
    ],
)
def test_a_bad_file_is_one_line_without_a_key(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem) as caught:
        read_keys(path)
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    now = 0.0
    limit = RateLimit(60.0, 2, clock=lambda: now)
    assert [limit.wait("ann"), limit.wait("ann")] == [0.0, 0.0]
    assert limit.wait("ann") == pytest.approx(1.0)
    assert limit.wait("bob") == 0.0
    now = 1.0
    assert limit.wait("ann") == 0.0
    assert RateLimit(None, 1).wait("ann") == 0.0


# --- the guard ------------------------------------------------------------------------------------------------------

Parts = list[bytes | float]  # a body as it arrives, with pauses in seconds


def ask(
    keys: Path, parts: Parts, limits: EndpointLimits | None = None, path: str = "/v1/chat/completions", key: str = KEY,
    app: Any = None, kind: str = "application/json", declared: int | None = None,
) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    """The answer to one request: status, headers, body."""
    guard = Guard(app or echo, keys, limits or EndpointLimits())
    return asyncio.run(call(guard, parts, path, key, kind, declared))


async def call(
    guard: Any, parts: Parts, path: str = "/v1/chat/completions", key: str = KEY, kind: str = "application/json",
    declared: int | None = None,
) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", kind.encode())]
    if declared is not None:
        headers.append((b"content-length", str(declared).encode()))
    sent: list[dict[str, Any]] = []
    left = list(parts)

    async def receive() -> dict[str, Any]:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))  # type: ignore[arg-type]
        if not left:
            return {"type": "http.disconnect"}
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await guard(scope, receive, send)
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that returns the request's body."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


def test_an_admitted_request_passes_unchanged(keys: Path) -> None:
    status, _, body = ask(keys, [b'{"a"', b": 1}"])
    assert (status, body) == (200, b'{"a": 1}')


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/", "/docs", "/openapi.json", "/health/x"])
def test_everything_but_health_wants_a_key(keys: Path, path: str) -> None:
    status, headers, body = ask(keys, [b"{}"], path=path, key="wrong" * 8)
    assert status == 401 and headers["www-authenticate"] == "Bearer"
    assert error_of(body)["type"] == "authentication_error"
    assert ask(keys, [b"{}"], path="/health", key="")[0] == 200


def test_bodies_are_counted_as_they_come(keys: Path) -> None:
    limits = EndpointLimits(body_bytes=1024)
    assert ask(keys, [b"x" * 1000, b"x" * 1000], limits)[0] == 413
    assert ask(keys, [b"{}"], limits, declared=5000)[0] == 413
    assert ask(keys, [b"x" * 1024], limits)[0] == 200
    assert ask(keys, [b"{}"], kind="text/plain")[0] == 415
    assert ask(keys, [])[0] == 400  # hung up
    assert ask(keys, [b"{", 5.0, b"}"], EndpointLimits(body_seconds=0.05))[0] == 408


def test_rate_and_queue_say_when_to_come_again(keys: Path) -> None:
    async def both() -> list[tuple[int, dict[str, str], bytes]]:
        limited = Guard(echo, keys, EndpointLimits(per_minute=6, burst=1))
        first, second = await call(limited, [b"{}"]), await call(limited, [b"{}"])
        other = await call(limited, [b"{}"], key=OTHER)
        hold = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await hold.wait()
            await echo(scope, receive, send)

        full = Guard(waits, keys, EndpointLimits(in_flight=1))
        running = asyncio.ensure_future(call(full, [b"{}"]))
        await asyncio.sleep(0.01)
        refused = await call(full, [b"{}"])
        hold.set()
        return [first, second, other, refused, await running, await call(full, [b"{}"])]

    first, second, other, refused, waited, after = asyncio.run(both())
    assert [answer[0] for answer in (first, second, other, refused, waited, after)] == [200, 429, 200, 429, 200, 200]
    assert 9 <= int(second[1]["retry-after"]) <= 11
    assert refused[1]["retry-after"] == "2"


def test_an_exception_shows_nothing_of_itself(keys: Path) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a secret path /etc/shadow")

    status, _, body = ask(keys, [b"{}"], app=breaks)
    assert status == 500 and b"secret" not in body and b"request" in body


def test_a_stream_that_breaks_or_is_late_ends_with_an_error_event(keys: Path) -> None:
    def streams(then: Callable[[], Awaitable[None]]) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await then()

        return app

    async def fails() -> None:
        raise Problem(503, "the engine failed")

    async def fails_as_starlette_says_it() -> None:
        raise RuntimeError("Caught handled exception, but response already started.") from Problem(503, "it failed")

    async def sleeps() -> None:
        await asyncio.sleep(5)

    for then, code in ((fails, 503), (fails_as_starlette_says_it, 503), (sleeps, 504)):
        status, _, body = ask(keys, [b"{}"], EndpointLimits(seconds=0.05), app=streams(then))
        first, last = body.decode().strip().split("\n\n")
        assert (status, first) == (200, "data: 1")
        assert error_of(last.removeprefix("data: ").encode())["code"] == code


# --- requests -------------------------------------------------------------------------------------------------------

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "field",
    [
        {"chat_template": "{{ 1 }}"}, {"chat_template_kwargs": {}}, {"response_format": {"type": "regex"}},
        {"structured_outputs": {}}, {"guided_json": {}}, {"media_io_kwargs": {}}, {"mm_processor_kwargs": {}},
        {"prompt_logprobs": 5}, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]}, {"n": 0}, {"temperature": "nan"}, {"stop": ["a"] * 5},
        {"seed": 2**63}, {"stream_options": {"include_usage": True}}, {"top_logprobs": 3}, {"max_tokens": 0},
        {"temperature": 0, "n": 2},
    ],
)  # fmt: skip
def test_a_field_that_is_not_on_the_list_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({**CHAT, **field})


def test_the_fields_for_the_engine() -> None:
    fields: dict[str, Any] = {**CHAT, "max_tokens": 5, "stop": "x", "stream": True, "user": "u", "reasoning": "inline"}
    request = ChatRequest.model_validate(fields)
    turns = request.turns("be safe")
    assert turns == [{"role": "system", "content": "be safe"}, {"role": "user", "content": "hi"}]
    expected = {
        "model": "m",
        "messages": turns,
        "max_completion_tokens": 5,
        "n": 1,
        "stop": ["x"],
        "stop_token_ids": [7],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": False,
    }
    chat = ChatFormat(stops=(7,))
    assert request.for_engine("m", turns, chat, split=False) == expected
    special = ChatFormat(stops=(7,), mark_ids=(3,), on={"enable_thinking": True})
    assert request.for_engine("m", turns, special, split=False) == {
        **expected, "skip_special_tokens": False, "chat_template_kwargs": {"enable_thinking": True},
    }  # fmt: skip
    own = {"messages": [{"role": "system", "content": "mine"}, *CHAT["messages"]]}
    assert len(ChatRequest.model_validate(own).turns("be safe")) == 2
    plain = CompletionRequest.model_validate({"prompt": "p", "max_tokens": 3})
    assert plain.for_engine("m", chat) == {
        "model": "m", "prompt": ["p"], "max_tokens": 3, "n": 1, "stream": False, "stop_token_ids": [7],
    }  # fmt: skip
    assert plain.for_engine("m", special)["skip_special_tokens"] is False


def test_stop_strings_stay_with_us_where_thinking_is_split_off() -> None:
    request = ChatRequest.model_validate({**CHAT, "stop": ["x", "y"]})
    fields = request.for_engine("m", request.turns(None), PLAIN, split=True)
    assert "stop" not in fields and request.stops == ("x", "y")
    assert fields["stream"] and fields["stream_options"]["continuous_usage_stats"]  # to be ended at the first match
    assert ChatRequest.model_validate(CHAT).for_engine("m", [], PLAIN, split=True)["stream"] is False


def test_the_thinking_of_an_earlier_answer_is_taken_and_goes_no_further() -> None:
    answer = {"role": "assistant", "content": "Bread.", "reasoning_content": "a", "reasoning": "a"}
    request = ChatRequest.model_validate({"messages": [*CHAT["messages"], answer, *CHAT["messages"]]})
    assert request.turns(None)[1] == {"role": "assistant", "content": "Bread."}


def test_an_exceeded_limit_is_named() -> None:
    limits = EndpointLimits(messages=1, n=2, max_tokens=10)
    assert ChatRequest.model_validate({**CHAT, "n": 3}).over(limits) == "n=3 is more than 2"
    assert ChatRequest.model_validate({**CHAT, "max_completion_tokens": 11}).over(limits) == (
        "max_tokens=11 is more than 10"
    )
    assert ChatRequest.model_validate({"messages": CHAT["messages"] * 2}).over(limits) == "2 messages are more than 1"
    assert ChatRequest.model_validate(CHAT).over(limits) is None


# --- published models, gates and history ----------------------------------------------------------------------------


BRACKETS = ChatFormat(opening="[THINK]", closing="[/THINK]", mark_ids=(1, 2), on={"enable_thinking": True})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "config.json").write_text("{}")
    write_manifest(model, "run", 3, "c0ffee", "be safe", BRACKETS)
    return tmp_path / "run"


def test_a_published_model_is_named_by_its_content(run: Path) -> None:
    published = read_published(run)
    assert (published.run, published.version, published.system_prompt) == ("run", 3, "be safe")
    assert published == read_published(run / "model")
    assert published.id == f"run-v3-{published.checksum[:12]}"


def test_the_version_carries_the_chat_format_as_json(run: Path, tmp_path: Path) -> None:
    serving = serving_of(read_published(run), None)
    assert (serving.chat, serving.folder) == (BRACKETS, str(run / "model"))
    assert Serving.from_json(json.loads(json.dumps(serving.to_json()))) == serving
    state = State(tmp_path)
    state.add("serve", run, serving)
    assert state.history()[-1].serving == serving
    older = {name: value for name, value in serving.to_json().items() if name not in ("folder", "chat")}
    assert Serving.from_json(older).id == serving.id


def test_a_manifest_without_a_chat_format_is_served_with_the_one_of_the_template(tmp_path: Path) -> None:
    folder = write_folder(family("magistral"), tmp_path / "model")
    write_manifest(folder, "run", 3, "c0ffee", None, BRACKETS)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["chat"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    published = read_published(folder)
    assert published.chat is None
    assert serving_of(published, None).chat == format_of(family("magistral"))
    del manifest["version"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"rapo.json lacks 'version': publish the model again"):
        read_published(folder)


def test_the_same_weights_with_another_format_are_another_version(run: Path) -> None:
    first = serving_of(read_published(run), None)
    (run / "model" / MANIFEST).unlink()  # or the new one would name it
    write_manifest(run / "model", "run", 3, "c0ffee", "be safe", ChatFormat())
    second = serving_of(read_published(run), None)
    assert second.id != first.id and second.app != first.app


def test_an_incomplete_model_is_not_served(run: Path, tmp_path: Path) -> None:
    (run / "model" / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(ModelError, match=r"model.safetensors has sha256"):
        read_published(run)
    (run / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model.safetensors"):
        read_published(run)
    (run / "model" / MANIFEST).write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        read_published(run)
    with pytest.raises(ModelError, match="no published model"):
        read_published(tmp_path)


def test_only_weights_whose_own_gate_passed_are_promoted(run: Path) -> None:
    published = read_published(run)
    with pytest.raises(ServingError, match="no gate was judged"):
        check_gate(published)
    write_gate(run / "evaluations" / "round-000002", "round-2", passed=True)
    with pytest.raises(ServingError, match="no gate was judged"):
        check_gate(published)
    write_gate(run / "evaluations" / "round-000003", "round-3", passed=False)
    with pytest.raises(ServingError, match=r"did not pass its gate.*asr: the upper bound"):
        check_gate(published)
    write_gate(run / "evaluations" / "manual", "round-3", passed=True)
    os.utime(run / "evaluations" / "manual" / "gate.json", ns=(2**62, 2**62))
    assert check_gate(published).path.parent.name == "manual"


def test_a_rollback_goes_to_the_last_other_weights() -> None:
    def change(version: int) -> Change:
        return Change(
            "now", "promote", f"runs/{version}", Serving("app", "m", "run", version, f"{version}" * 64, None, "", PLAIN)
        )

    one, two = change(1), change(2)
    assert previous([one, two]) is one
    assert previous([one, two, two]) is one
    assert previous([one, two, one]) is two
    for nothing in ([], [one], [one, one]):
        with pytest.raises(ConfigError, match="nothing to roll back to"):
            previous(nothing)
