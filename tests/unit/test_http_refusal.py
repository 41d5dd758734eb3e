"""An endpoint's refusal in its own words: every shape becomes one short line, and no prompt is ever in it."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapo_ray.config.request import JudgeRequestConfig, RequestConfig
from rapo_ray.engines.http_refusal import CUT, MAX_WORDS, EndpointRefused, endpoint_words, remedies

pytestmark = pytest.mark.unit

PROMPT = 'How do I bake bread for forty people\nwithout an oven, and "quickly"?'
WORDS = "Unsupported parameter: 'max_tokens'."


def words(body: Any, *sent: str) -> str:
    """The words in a body, given as bytes or as JSON."""
    return endpoint_words(body if isinstance(body, bytes) else json.dumps(body).encode(), sent)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": WORDS, "type": "invalid_request_error", "param": "max_tokens", "code": None}},
        {"object": "error", "message": WORDS, "type": "BadRequestError", "code": 400},
        {"error": WORDS},
        {"detail": WORDS},
        [{"error": {"code": 400, "message": WORDS, "status": "INVALID_ARGUMENT"}}],
        WORDS,
        WORDS.encode(),
        f"<html><body><h1>{WORDS}</h1></body></html>".encode(),
    ],
)
def test_the_sentence_is_read_from_every_usual_shape(body: Any) -> None:
    assert words(body) == WORDS


def test_a_field_that_is_refused_by_its_place_is_named() -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    assert words({"detail": detail}) == "body.seed: Extra inputs are not permitted"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 9999, {"error": {"message": 7}}, [{"msg": "m", "loc": 7}]]
)
def test_a_body_without_a_sentence_breaks_nothing(body: Any) -> None:
    assert len(words(body)) <= MAX_WORDS


def test_the_words_are_one_short_line_without_control_characters() -> None:
    line = words({"error": {"message": "one\n\x1b[2Jtwo\u2028" + "three " * 99}})
    assert line.startswith("one [2Jtwo three three") and line.endswith(CUT) and len(line) == MAX_WORDS
    assert line.isprintable()


@pytest.mark.parametrize(
    "quote",
    [
        PROMPT,
        repr(PROMPT),
        json.dumps(PROMPT),
        json.dumps([{"role": "user", "content": PROMPT}]),
        PROMPT[:30],
        PROMPT[10:],
        " ".join(PROMPT.split()),
    ],
)
def test_a_quoted_prompt_is_cut_out_and_the_words_around_it_stay(quote: str) -> None:
    line = words({"error": {"message": f"The input {quote} was flagged."}}, "You are kind.", PROMPT)
    assert "was flagged" in line and line.startswith("The input") and CUT in line
    for piece in ("bake bread", "forty people", "without an oven", "quickly"):
        assert piece not in line


def test_other_scripts_escapes_and_short_prompts_are_quotes_too() -> None:
    chinese = "\u600e\u6837\u5728\u5bb6\u91cc\u70e4\u9762\u5305"
    assert words({"error": f"refused: {chinese}!"}, chinese) == f"refused: {CUT}!"
    inner = json.dumps(chinese)  # escaped twice, as in a repr of a request
    assert words({"error": f"refused: {inner}!"}, chinese) == f'refused: "{CUT}"!'
    assert words({"error": "refused: Bake it"}, "Bake it") == f"refused: {CUT}"
    assert words({"error": "no key s3cr3t-key here"}, "s3cr3t-key") == f"no key {CUT} here"


@given(st.text(min_size=20, max_size=300), st.text(max_size=40), st.text(max_size=40))
def test_no_long_run_of_a_prompt_is_left(prompt: str, before: str, after: str) -> None:
    line = words({"error": {"message": before + prompt + after}}, prompt)
    sent = " ".join(prompt.split()).encode("utf-8", "replace")
    data = line.replace(CUT, "").encode("utf-8", "replace")
    assert not any(data[at : at + 40] in sent for at in range(len(data) - 39))


def test_a_refusal_crosses_processes_and_reads_as_one_line() -> None:
    refused = pickle.loads(pickle.dumps(EndpointRefused(400, WORDS, 1)))
    assert (str(refused), refused.status, refused.words) == (f"HTTP 400 after 1 call(s): {WORDS}", 400, WORDS)
    assert str(EndpointRefused(404, "", 2)) == "HTTP 404 after 2 call(s)"


SETTINGS = {"temperature": "judge.risk.request.temperature=null", "response_format": "judge.risk.reply=text"}
OTHER = "judge.risk.request.limit_field=max_completion_tokens"


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", OTHER),
        ("'temperature' does not support 0 with this model", SETTINGS["temperature"]),
        ("max_tokens and temperature are unknown", f"{OTHER} and {SETTINGS['temperature']}"),
        ("response_format.type json_schema is unavailable", SETTINGS["response_format"]),
        ("'max_tokens' or 'max_completion_tokens' is too large: 9. The maximum context length is 8.", ""),
        ("The model `m` does not exist", ""),
        ("the temperatures differ", ""),
        ("Unknown field 'effort'", "judge.risk.request.extra_body without effort"),
    ],
)
def test_the_words_name_the_settings_to_change(text: str, changes: str) -> None:
    request = JudgeRequestConfig(extra_body={"effort": "low"})
    assert remedies(text, request, "judge.risk", SETTINGS) == changes


def test_the_newer_name_of_the_limit_can_be_refused_too() -> None:
    request = RequestConfig(limit_field="max_completion_tokens")
    line = "max_completion_tokens: Extra inputs are not permitted"
    assert remedies(line, request, "evaluation", {}) == "evaluation.request.limit_field=max_tokens"
