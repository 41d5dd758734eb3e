"""Further members of the kinds of fault that HTTP clients meet, each with the value that is right for it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from rapo_ray.config.serving import EndpointLimits, ServeConfig
from rapo_ray.errors import ConfigError
from rapo_ray.serving.fastapi_app import make_app
from rapo_ray.serving.headers import Waiting
from rapo_ray.serving.keys import CHECK_SECONDS, KeyStore, read_keys
from rapo_ray.serving.requests import ChatRequest, CompletionRequest
from tests.unit.test_header_limits import Loop, connected
from tests.unit.test_serving import KEY, OTHER, error_of
from tests.unit.test_serving_requests import ANSWER, CHAT, USER, asks_for, engine_fields, nested, problem_of

pytestmark = pytest.mark.unit


# --- what clients send without meaning anything by it, and what they mean -------------------------------------------

MEANS_NOTHING: list[dict[str, Any]] = [
    {"stream": True, "stream_options": {"include_usage": False}},
    {"stream": True, "stream_options": {}},
    {"frequency_penalty": 0, "presence_penalty": 0.0, "top_p": 1, "temperature": 1},
    {"logprobs": False, "top_logprobs": None},
    {"prompt_cache_retention": "24h"},
    {"prediction": None, "audio": None, "web_search_options": None},
    {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0},
    {"ignore_eos": False, "skip_special_tokens": True, "min_tokens": 0},
    {"add_generation_prompt": True, "continue_final_message": False, "echo": False},
    {"stop_token_ids": [], "bad_words": []},
    {"include_reasoning": True},
]
TURNS_OF_CLIENTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        USER,
    ),
    ({"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}}, USER),
    (
        {"role": "assistant", "content": "Bread.", "parsed": None, "refusal": None, "tool_calls": None},
        {"role": "assistant", "content": "Bread."},
    ),
    (
        {"role": "assistant", "content": "Bread.", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]},
        {"role": "assistant", "content": "Bread."},
    ),
    (
        {"role": "assistant", "content": "Bread.", "thinking_blocks": [{"type": "thinking", "thinking": "a"}]},
        {"role": "assistant", "content": "Bread."},
    ),
    (
        {"role": "assistant", "content": '{"a": 1}', "parsed": {"a": 1}},
        {"role": "assistant", "content": '{"a": 1}'},
    ),
    ({"role": "assistant", "content": "Bread.", "images": []}, {"role": "assistant", "content": "Bread."}),
    ({"role": "assistant", "content": "Bread.", "id": "msg_1"}, {"role": "assistant", "content": "Bread."}),
    (
        {"role": "assistant", "content": [{"type": "text", "text": "Bread."}], "reasoning_content": ""},
        {"role": "assistant", "content": "Bread."},
    ),
    ({"role": "user", "content": "\ud83c\udf5e".encode("utf-16", "surrogatepass").decode("utf-16")},
     {"role": "user", "content": "\U0001f35e"}),
]  # fmt: skip
MEANS_SOMETHING: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 5}, "top_k"),
    ({"repetition_penalty": 1.1}, "repetition_penalty"),
    ({"min_tokens": 9}, "min_tokens"),
    ({"include_reasoning": False}, "include_reasoning"),
    ({"guided_regex": "a+"}, "guided_regex"),
    ({"ignore_eos": True}, "ignore_eos"),
    ({"bad_words": ["bread"]}, "bad_words"),
    ({"stop_token_ids": [5]}, "stop_token_ids"),
    ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
    ({"thinking": {"type": "disabled"}}, "thinking"),
    ({"enable_thinking": False}, "enable_thinking"),
    ({"safe_prompt": True}, "safe_prompt"),
    ({"max_new_tokens": 3}, "max_new_tokens"),
    ({"documents": [{"text": "x"}]}, "documents"),
    ({"plugins": [{"id": "web"}]}, "plugins"),
    ({"system": "Be rude."}, "system"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    ({"store": "false"}, "store"),
    ({"stream": 1}, "stream"),
    ({"top_p": "1"}, "top_p"),
    ({"presence_penalty": True}, "presence_penalty"),
    ({"logprobs": "true"}, "logprobs"),
    ({"logprobs": 5}, "logprobs"),
    ({"temperature": -0.5}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"seed": 1.5}, "seed"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"stop": [""]}, "stop"),
]


@pytest.mark.parametrize("fields", MEANS_NOTHING)
def test_a_client_s_default_is_answered_like_its_absence(fields: dict[str, Any]) -> None:
    sent = engine_fields({**CHAT, **fields})
    plain = engine_fields({**CHAT, **{name: fields[name] for name in ("stream",) if name in fields}})
    neutral = {"frequency_penalty", "presence_penalty", "top_p", "temperature"} & set(fields)
    assert {name: value for name, value in sent.items() if name not in neutral} == plain


@pytest.mark.parametrize(("message", "turn"), TURNS_OF_CLIENTS)
def test_a_client_s_turn_is_its_text(message: dict[str, Any], turn: dict[str, Any]) -> None:
    assert ChatRequest.model_validate({"messages": [USER, message, USER]}).turns(None) == [USER, turn, USER]


@pytest.mark.parametrize(("fields", "name"), MEANS_SOMETHING)
def test_what_would_change_the_answer_is_refused_by_its_name(fields: dict[str, Any], name: str) -> None:
    assert problem_of(ChatRequest, {**CHAT, **fields}).startswith(name)


# --- inputs that no engine can encode -------------------------------------------------------------------------------

UNENCODABLE: list[dict[str, Any]] = [
    {"metadata": {"\ud800": "a"}},
    {"safety_identifier": "\ud800"},
    {"prompt_cache_key": "\udc00"},
    {"messages": [{"role": "system", "content": "\ud83c"}, USER]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "\udf5e"}]}]},
    {"\ud800": 1},
]


@pytest.mark.parametrize("fields", UNENCODABLE)
def test_a_lone_surrogate_anywhere_is_a_bad_request(fields: dict[str, Any]) -> None:
    problem_of(ChatRequest, {**CHAT, **fields}).encode()


def deep(levels: int) -> bytes:
    return b'{"messages": ' + b"[" * levels + b"]" * levels + b"}"


BODIES: list[tuple[bytes, int]] = [
    (json.dumps(CHAT).encode(), 200),
    (b'\xef\xbb\xbf{"messages": [{"role": "user", "content": "Hi"}]}', 200),
    (rb'{"messages": [{"role": "user", "content": "\ud83c\udf5e"}]}', 200),
    (rb'{"messages": [{"role": "user", "content": "a\u0000b"}]}', 200),
    (rb'{"messages": [{"role": "user", "content": "a\ud83cb"}]}', 400),
    (b'{"messages": [{"role": "user", "content": "\xff"}]}', 400),
    (b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', 400),
    (b"", 400), (b"null", 400), (b"[]", 400), (b'"Hi"', 400), (b"{", 400), (b"\x00" * 40, 400),
    (deep(500), 400), (deep(100_000), 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": NaN}', 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": Infinity}', 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": 1e999}', 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "seed": ' + b"9" * 400 + b"}", 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "seed": ' + b"9" * 6000 + b"}", 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "' + b"x" * 5000 + b'": 1}', 400),
    (b'{"messages": [{"role": "user", "content": "Hi"}], "a\\nb\\ud800": 1}', 400),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BODIES, ids=lambda value: repr(value)[:60])
def test_a_body_is_taken_or_a_bad_request_and_never_an_error_of_ours(body: bytes, status: int, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"ann:{KEY}\n")
    app = make_app(ServeConfig(model=tmp_path, api_keys=tmp_path / "keys"))

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> JSONResponse:
        return JSONResponse(body.turns(None))

    async def post() -> httpx.Response:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://e", headers=headers
        ) as client:
            return await client.post("/v1/chat/completions", content=body)

    answer = asyncio.run(post())
    assert answer.status_code == status
    if status == 400:
        assert error_of(answer.content)["type"] == "invalid_request_error" and len(answer.content) < 1000


# --- structured output: its settings and bounds ---------------------------------------------------------------------

LIMITS = EndpointLimits(schema_depth=5, schema_characters=200)
BOUNDED: list[tuple[dict[str, Any], bool]] = [
    ({"properties": {"x" * 300: {}}}, False),
    ({"properties": {f"p{number}": {} for number in range(40)}}, False),
    ({"maximum": 10**250}, False),
    ({"anyOf": [{"anyOf": [{"anyOf": [{}]}]}]}, False),
    ({"default": [[[[[1]]]]]}, False),
    ({"anyOf": [{"anyOf": [{}]}]}, True),
    ({"description": "\u9762" * 150}, True),
    ({"description": "\u9762" * 250}, False),
    ({"properties": {"a\ud800": {}}}, False),
    ({"enum": ["a", "\udc00"]}, False),
    ({}, True),
]
UNUSUAL: list[tuple[dict[str, Any], str]] = [
    ({"type": "json_schema", "json_schema": None}, "response_format"),
    ({"type": "json_schema", "json_schema": "grams"}, "response_format"),
    ({"type": "json_schema", "json_schema": {"name": "loaf"}}, "response_format"),
    ({"type": "json_schema", "json_schema": {"name": "loaf", "schema": "{}"}}, "response_format"),
    ({"type": "JSON_SCHEMA", "json_schema": {"name": "loaf", "schema": {}}}, "response_format"),
    ({"type": "json_schema", "schema": {}}, "response_format"),
    ({"type": "json_schema", "json_schema": {"name": "loaf", "schema": {}, "strict": "yes"}}, "response_format"),
    ({"type": "json_schema", "json_schema": {"name": "\ud800", "schema": {}}}, "response_format"),
    ({"type": "regex", "pattern": "a+"}, "response_format"),
    ({"type": "grammar", "grammar": "root ::= 'a'"}, "response_format"),
    ({}, "response_format"),
]


@pytest.mark.parametrize(("schema", "taken"), BOUNDED)
def test_a_schema_is_bounded_wherever_it_is_large(schema: dict[str, Any], taken: bool) -> None:
    over = ChatRequest.model_validate(asks_for(schema)).over(LIMITS)
    assert (over is None) is taken
    (over or "").encode()


@pytest.mark.parametrize(("wanted", "name"), UNUSUAL)
def test_a_response_format_that_is_none_is_refused_by_name(wanted: dict[str, Any], name: str) -> None:
    assert problem_of(ChatRequest, {**CHAT, "response_format": wanted}).startswith(name)


@pytest.mark.parametrize("more", [{"strict": True}, {"strict": False}, {"strict": None}, {"description": "A loaf."}])
def test_what_clients_write_beside_a_schema_changes_nothing(more: dict[str, Any]) -> None:
    body = asks_for(ANSWER["json_schema"])
    body["response_format"]["json_schema"].update(more)
    assert ChatRequest.model_validate(body).answer_schema == ANSWER["json_schema"]


def test_the_bounds_are_inclusive() -> None:
    assert ChatRequest.model_validate(asks_for(nested(5))).over(LIMITS) is None
    exact = {"title": "x" * (200 - len('{"title":""}'))}
    assert len(json.dumps(exact, separators=(",", ":"))) == 200
    loose = EndpointLimits(schema_characters=201)
    assert ChatRequest.model_validate(asks_for(exact)).over(loose) is None


# --- keys that are gone ---------------------------------------------------------------------------------------------

NEW = "n" * len(KEY)


def store_of(path: Path, content: str) -> tuple[KeyStore, list[float]]:
    """A store on a file, and its clock."""
    path.write_text(content)
    now = [0.0]
    return KeyStore(path, clock=lambda: now[0]), now


def in_place(path: Path, text: str) -> None:
    """Write other content of the same size and leave the time, as `cp -p` and some editors do."""
    stat = path.stat()
    path.write_text(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replaced(path: Path, text: str) -> None:
    """Put another file of the same size and time in its place."""
    stat, other = path.stat(), path.with_name("other")
    other.write_text(text)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


def directory(path: Path, text: str) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path, text: str) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def commented(path: Path, text: str) -> None:
    path.write_text(f"# ann:{KEY}\n{text}")


def blank(path: Path, text: str) -> None:
    path.write_text(" \n\t\n")


def nul(path: Path, text: str) -> None:
    path.write_bytes(b"\x00" * 40)


@pytest.mark.parametrize("change", [in_place, replaced, directory, dangling, commented, blank, nul])
def test_a_key_that_is_gone_is_gone_however_it_went(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    store, now = store_of(path, f"ann:{KEY}\n")
    assert store.holder(f"Bearer {KEY}") == "ann"
    change(path, f"eve:{NEW}\n")
    now[0] = CHECK_SECONDS
    assert store.holder(f"Bearer {KEY}") is None
    assert store.holder(f"Bearer {NEW}") == ("eve" if change in (in_place, replaced, commented) else None)


def test_a_mounted_secret_is_swapped_with_its_folder(tmp_path: Path) -> None:
    for name, text in (("one", f"ann:{KEY}\n"), ("two", f"ann:{OTHER}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(text)
        os.utime(tmp_path / name / "keys", ns=(1, 1))
    (tmp_path / "data").symlink_to("one")
    now = [0.0]
    store = KeyStore(tmp_path / "data" / "keys", clock=lambda: now[0])
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    now[0] = CHECK_SECONDS
    assert (store.holder(f"Bearer {KEY}"), store.holder(f"Bearer {OTHER}")) == (None, "ann")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"ann:{KEY}\r\nbob:{OTHER}\r\n", ["ann", "bob"]),
        (f"\ufeffann:{KEY}\nbob:{OTHER}\n", ["ann", "bob"]),  # as Windows' editors write it
        (f"  ann : {KEY}  \n\n", ["ann"]),
        (f"# callers\n\nann:{KEY}", ["ann"]),
        (f"Ann M\u00fcller:{KEY}", ["Ann M\u00fcller"]),
    ],
)
def test_keys_are_read_as_editors_write_them(text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(text.encode())
    assert list(read_keys(tmp_path / "keys")) == names


@pytest.mark.parametrize(
    "text", [f"ann:{KEY[:-1]}\u00fc", f"ann:{KEY} x", f":{KEY}", f"ann={KEY}", f"ann:{KEY}\nbob:", f"ann\x00\n{KEY}"]
)
def test_a_line_that_is_none_ends_the_file_s_use_and_shows_no_key(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        read_keys(tmp_path / "keys")
    assert KEY[:-1] not in str(caught.value) and len(str(caught.value).splitlines()) == 1


# --- small ones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    ["", "short", "x" * 65, "a b c d e f", "<script>alert", "id\u00fcid\u00fcid", "../../etc/hosts", "a" * 5000],
)
def test_a_request_id_that_is_none_is_replaced(sent: str, tmp_path: Path) -> None:
    assert request_id(sent, tmp_path) != sent


@pytest.mark.parametrize("sent", ["7c9e6679-7425-40de-944b-e07fc1f90ae7", "0af7651916cd43dd8448eb211c80319c"])
def test_a_request_id_of_a_tracer_stays(sent: str, tmp_path: Path) -> None:
    assert request_id(sent, tmp_path) == sent


def request_id(sent: str, folder: Path) -> str:
    from rapo_ray.serving.guard import Guard

    (folder / "keys").write_text(f"ann:{KEY}\n")
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["request_id"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request", "body": b"{}"}

    headers = [(b"x-request-id", sent.encode("latin-1"))]
    scope = {"type": "http", "method": "GET", "path": "/health", "headers": headers}
    asyncio.run(Guard(app, folder / "keys", EndpointLimits())(scope, nothing, nothing))
    return seen[0]


COUNTS: list[Any] = [1.5, "", " 2", [], {}, [2], -1, 0, True, False, "two"]


@pytest.mark.parametrize("value", COUNTS)
@pytest.mark.parametrize("name", ["max_tokens", "n"])
def test_a_count_is_a_whole_number_from_one(name: str, value: Any) -> None:
    assert problem_of(ChatRequest, {**CHAT, name: value}).startswith(name)
    assert problem_of(CompletionRequest, {"prompt": "a", name: value}).startswith(name)


# --- connections without complete headers ---------------------------------------------------------------------------


def test_a_connection_lost_before_its_headers_leaves_no_timer_and_its_place() -> None:
    loop, waiting = Loop(), Waiting(10, 1)
    first = connected(waiting, loop)
    first.connection_lost(None)
    second = connected(waiting, loop)
    assert loop.timers[0].cancelled
    assert not first.transport.closed and not second.transport.closed


def test_a_connection_with_headers_takes_no_place_until_its_next_request() -> None:
    loop, waiting = Loop(), Waiting(10, 1)
    served = [connected(waiting, loop) for _ in range(1)]
    served[0].on_headers_complete()
    for _ in range(3):
        another = connected(waiting, loop)
        another.on_headers_complete()
        served.append(another)
    assert not any(one.transport.closed for one in served)
    served[0].on_message_begin()
    served[1].on_message_begin()
    assert [one.transport.closed for one in served] == [True, False, False, False]


def test_headers_in_pieces_gain_no_time() -> None:
    loop = Loop()
    protocol = connected(Waiting(10, 5), loop)
    for _ in range(9):
        protocol.on_message_begin()
    assert len(loop.timers) == 1


def test_a_closed_connection_is_closed_once() -> None:
    loop, waiting = Loop(), Waiting(10, 1)
    first, second = connected(waiting, loop), connected(waiting, loop)
    assert first.transport.closed and loop.timers[0].cancelled
    answered = first.transport.sent
    first.connection_lost(None)
    first.on_headers_complete()
    assert first.transport.sent == answered and not second.transport.closed


def test_a_connection_that_timed_out_frees_its_place() -> None:
    loop, waiting = Loop(), Waiting(10, 1)
    first = connected(waiting, loop)
    loop.timers[0].fire()
    second = connected(waiting, loop)
    first.connection_lost(OSError("gone"))
    assert first.transport.closed and not second.transport.closed


def test_a_second_request_that_never_comes_whole_is_closed_and_one_that_does_is_not() -> None:
    loop = Loop()
    protocol = connected(Waiting(10, 5), loop)
    protocol.on_headers_complete()
    protocol.on_message_begin()
    protocol.on_headers_complete()
    assert all(timer.cancelled for timer in loop.timers)
    protocol.on_message_begin()
    protocol.connection_lost(None)
    assert all(timer.cancelled for timer in loop.timers)
