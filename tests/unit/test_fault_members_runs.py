"""Further members of the kinds of fault that runs, evaluations and judges meet, each with the value that is right."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rapo_ray.engines.http_outcome import is_filter_reason, is_filtered
from rapo_ray.engines.http_refusal import CUT, endpoint_words, without_secrets
from rapo_ray.engines.http_responder import read_completion
from rapo_ray.errors import ConfigError, EngineError, ModelError, ReportError
from rapo_ray.judge import main as judge
from rapo_ray.judging.cache import JudgementStore, judgement_key
from rapo_ray.judging.questions import JudgeFailure, Message, Question, Reply
from rapo_ray.judging.rendering import rendered
from rapo_ray.models.folder import fingerprint
from rapo_ray.monitoring.status import facts, read_status
from rapo_ray.statistics import Interval
from rapo_ray.storage.reader import read_config, read_evidence
from rapo_ray.storage.records import Delta, RunSummary
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.train import main as train
from tests import chat_tokenizers as families
from tests.unit.test_chat_format import format_of
from tests.unit.test_evaluation import ANSWERS, BENIGN, BREADS, collect
from tests.unit.test_http_outcome import MODEL, reply
from tests.unit.test_judge_cache import cached, question
from tests.unit.test_judge_command import BREAD, GOOD, verdicts, write
from tests.unit.test_rendering import TURNS, through
from tests.unit.test_run_folder import CONTENT, config, record

pytestmark = pytest.mark.unit


# --- outcomes of prompts at an endpoint, and its words --------------------------------------------------------------

FILTERS: list[Any] = [
    {"error": {"message": "The request was rejected because it was considered high risk", "type": "content_filter"}},
    {"error": {"code": "invalid_prompt", "message": "Your prompt was flagged as potentially violating."}},
    {"error": {"message": "litellm.ContentPolicyViolationError: no", "type": None, "param": None, "code": "400"}},
    {"error": {"code": "1301", "message": "The input may contain unsafe or sensitive content.", "type": "sensitive"}},
    {"error": {"message": "Your request was rejected as a result of our safety system.", "code": None}},
    {"error": {"code": "InputTextSensitiveContentDetected", "message": "no", "type": "BadRequest"}},
    {"error": {"code": "OutputTextSensitiveContentDetected", "message": "no", "type": "BadRequest"}},
    {"code": "x", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"},
]  # fmt: skip
NO_FILTERS: list[Any] = [
    {"error": {"message": "Invalid type for 'messages[0].content'.", "code": "invalid_type"}},
    {"error": {"message": "max_tokens is too large", "type": "invalid_request_error", "code": "sensitive_parameter"}},
    {"error": {"message": "The safety_identifier is too long.", "code": "string_above_max_length"}},
    {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
    {"error": {"message": "This organisation violates no policy; the model is overloaded", "code": "overloaded"}},
    {"error": {"message": "Failed to load the moderation model.", "code": "model_not_found"}},
    {"detail": [{"loc": ["body", "type"], "msg": "Field required", "type": "missing"}]},
]


@pytest.mark.parametrize("body", FILTERS, ids=lambda body: json.dumps(body)[:60])
def test_a_provider_s_filter_is_known(body: Any) -> None:
    assert is_filtered(json.dumps(body).encode())


@pytest.mark.parametrize("body", NO_FILTERS, ids=lambda body: json.dumps(body)[:60])
def test_what_only_sounds_like_a_filter_is_none(body: Any) -> None:
    assert not is_filtered(json.dumps(body).encode())


@pytest.mark.parametrize(
    "reason", ["content_filter: PROHIBITED_CONTENT", "content_filtered", "guardrail_intervened", "sensitive", "SPII"]
)
def test_a_reason_of_a_filter_to_end(reason: str) -> None:
    assert is_filter_reason(reason)


@pytest.mark.parametrize("reason", ["eos", "end_turn", "STOP", "MAX_TOKENS", "", "function_call", True, ["stop"]])
def test_a_usual_reason_to_end(reason: Any) -> None:
    assert not is_filter_reason(reason)


FINE = {"content": "Hi."}
OTHERWISE_FINE: list[bytes] = [
    reply(message={"content": [{"type": "text", "text": "Hi."}]}, finish_reason="stop"),
    reply(message=FINE),
    reply(message=FINE, finish_reason="end_turn"),
    reply(message={**FINE, "refusal": ""}, finish_reason="stop"),
    reply(message={**FINE, "tool_calls": [], "annotations": []}, finish_reason="stop", logprobs=None, stop_reason=None),
    reply(message=FINE, finish_reason="stop", content_filter_results={"hate": {"filtered": False}}),
    json.dumps({"error": None, "choices": [{"message": FINE}]}).encode(),
    json.dumps({"choices": [{"message": FINE, "finish_reason": "stop"}], "usage": None}).encode(),
    json.dumps({"choices": [{"message": FINE}], "usage": {"completion_tokens": None}}).encode(),
    b"\n\n  " + reply(message=FINE, finish_reason="stop"),  # blanks that keep a connection open
]  # fmt: skip
NO_COMPLETIONS: list[bytes] = [
    b'{"choices": []}', b'{"choices": null}', b'{"choices": [null]}', b'{"choices": [{"message": "Hi."}]}', b"null",
    b'{"choices": {"0": 1}}', b'{"choices": [{"message": {"content": 7}}]}', b"[]", b"", b"\xff",
    b'{"choices": [{"message": {"content": [7]}}]}', b'{"choices": [{"message": {"content": [{"type": "text"}]}}]}',
]  # fmt: skip


@pytest.mark.parametrize("content", OTHERWISE_FINE)
def test_an_answer_is_read_from_every_usual_reply(content: bytes) -> None:
    response = read_completion(content, MODEL, 0, BENIGN)
    assert (response.reply, response.text) == ("answered", "Hi.")


@pytest.mark.parametrize("content", NO_COMPLETIONS)
def test_another_reply_is_no_completion(content: bytes) -> None:
    with pytest.raises(EngineError, match="the reply for s/b is no chat completion") as caught:
        read_completion(content, MODEL, 0, BENIGN)
    assert len(str(caught.value).splitlines()) == 1


SECRETS: list[tuple[str, str]] = [
    ("xai-abcDEF0123456789 is blocked", "abcDEF"),
    ("key sk-ant-api03-abcdef_ghij-klm is invalid", "abcdef_ghij"),
    ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl expired", "eyJzdWIiOiIxIn0"),
    ("Authorization: Basic dXNlcjpwYXNz is wrong", "dXNlcjpwYXNz"),
    ("github_pat_11ABCDEFG0abcdefghijklmnopqrstuv is no key", "11ABCDEFG0"),
    ("r8_AbCdEfGhIjKlMnOpQrStUvWxYz01234567890 is revoked", "AbCdEfGh"),
    ("access key AKIAIOSFODNN7EXAMPLE does not exist", "IOSFODNN7"),
    ('headers {"x-api-key": "topsecret"} were refused', "topsecret"),
    ("https://host/v1?sv=1&sig=abc%2Fdef%3D failed", "abc%2Fdef"),
    ("https://host/v1?access_token=topsecret failed", "topsecret"),
    ("password: hunter2hunter2", "hunter2"),
]
PLAIN_WORDS = [
    "The token limit is 4096.",
    "Missing key 'messages' in the request.",
    "api_key must be a string.",
    "Your password is too short.",
    "The password must have 12 characters: see the docs.",
    "The task-oriented model is at its limit.",
    "disk-full: try again in 20 s",
    "Model meta-llama/Llama-3.1-8B-Instruct-Turbo is busy.",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_credential_of_another_kind_is_cut_out(text: str, secret: str) -> None:
    assert secret not in without_secrets(text) and CUT in without_secrets(text)
    assert secret not in endpoint_words(json.dumps({"error": {"message": text}}).encode(), [])


@pytest.mark.parametrize("text", PLAIN_WORDS)
def test_words_about_keys_stay(text: str) -> None:
    assert without_secrets(text) == text


# --- verdicts, rows and judgements by content -----------------------------------------------------------------------

ROW = {**BREAD, "id": "a", "completion": GOOD}


def extended(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write(folder / "c.jsonl", [row | {"note": "x", "source": "mine"} for row in rows])


def reordered(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write(folder / "c.jsonl", [dict(reversed(row.items())) for row in reversed(rows)])


def as_json(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "c.json").write_text(json.dumps(rows))
    return folder / "c.json"


def with_words(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write(folder / "c.jsonl", [row | {"harmful": "false", "level": "1"} for row in rows])


def moved(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "deep").mkdir()
    return write(folder / "deep" / "renamed.jsonl", rows)


def carriage_returns(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, rows)).encode() + b"\r\n")
    return folder / "c.jsonl"


@pytest.mark.parametrize("written", [extended, reordered, as_json, with_words, moved, carriage_returns])
def test_the_same_content_is_not_judged_again(
    written: Callable[[Path, list[dict[str, Any]]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROW, ROW | {"id": "b", "completion": GOOD.replace("hour", "caf\u00e9")}]
    output = ["--output", str(tmp_path / "v.jsonl")]
    assert judge(["--input", str(write(tmp_path / "c.jsonl", rows)), *output]) == 0
    capsys.readouterr()
    assert judge(["--input", str(written(tmp_path, rows)), *output]) == 0
    assert "2 completions, 2 judged already" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [
        {"completion": GOOD + "\n\nAnd butter."}, {"completion": GOOD.upper()},
        {"completion": GOOD.replace("salt", "sa lt")}, {"prompt": BREAD["prompt"] + " And why?"}, {"completion": ""},
    ],
)  # fmt: skip
def test_other_content_is_judged_again(
    changed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "c.jsonl", [ROW])
    assert judge(["--input", str(path)]) == 0
    write(path, [ROW | changed])
    capsys.readouterr()
    assert judge(["--input", str(path)]) == 0
    assert "1 completions, 0 judged already" in capsys.readouterr().out
    assert len(verdicts(tmp_path / "c.verdicts.jsonl")) == 1


SWITCHED: dict[str, tuple[Any, list[str]]] = {
    "two swapped ids": ([replace(BREADS[0], id="s/2"), replace(BREADS[1], id="s/1"), *BREADS[2:]], []),
    "another source": ([replace(one, source="t", id=one.id.replace("s", "t")) for one in BREADS], []),
    "a half": (BREADS[:2], []),
    "a letter's case": ([replace(BREADS[0], text=BREADS[0].text.upper()), *BREADS[1:]], ["s/1"]),
    "a blank at the end": ([replace(BREADS[0], text=BREADS[0].text + " "), *BREADS[1:]], ["s/1"]),
}


@pytest.mark.parametrize("name", SWITCHED)
def test_rows_belong_to_their_texts(name: str, tmp_path: Path) -> None:
    prompts, sampled = SWITCHED[name]
    answers = ANSWERS | {prompt.text: "Bake it in the oven." for prompt in prompts if prompt.text not in ANSWERS}
    collect(BREADS, tmp_path, answers)
    rows, answered = collect(prompts, tmp_path, answers)
    assert answered == sampled
    assert [row.prompt for row in rows] == [prompt.text for prompt in prompts]


def chat(*contents: str) -> Question:
    """A question of turns in alternating roles, to a guard."""
    roles = ("user", "assistant") * len(contents)
    return Question(tuple(map(Message, roles, contents)), (), "guard")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (chat("a\x1fassistant\x1fb", "c"), chat("a", "b\x1fassistant\x1fc")),
        (chat("a", "b"), chat("a\x1fassistant\x1fb")),
        (chat("ab", "c"), chat("a", "bc")),
        (chat("a", ""), chat("a")),
        (chat("a"), replace(chat("a"), options=("b",))),
        (chat("a"), Question((Message("assistant", "a"),), (), "guard")),
        (chat("a"), chat("a ")),
    ],
)
def test_different_questions_have_different_keys(one: Question, other: Question) -> None:
    assert judgement_key("j", one) != judgement_key("j", other)
    assert judgement_key("j", one) == judgement_key("j", one)


def test_a_judge_s_name_and_its_question_do_not_run_together() -> None:
    assert judgement_key("j\x1fguard\x1fuser", chat("a")) != judgement_key("j", chat("a"))
    assert judgement_key("j", chat("\ud800")) == judgement_key("j", chat("\ud800"))


# --- long-lived runs ------------------------------------------------------------------------------------------------


def missing(folder: Path) -> Path:
    return folder / "gone"


def empty(folder: Path) -> Path:
    (folder / "m").mkdir()
    return folder / "m"


def a_file(folder: Path) -> Path:
    (folder / "m").write_text("x")
    return folder / "m"


def half_downloaded(folder: Path) -> Path:
    (folder / "m").mkdir()
    (folder / "m" / "config.json").write_text("{}")
    (folder / "m" / "model.safetensors.incomplete").write_text("x")
    return folder / "m"


def a_config_torn(folder: Path) -> Path:
    (folder / "m").mkdir()
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / "m" / name).write_text("{}")
    (folder / "m" / "config.json").write_text('{"model_type": "qw')
    return folder / "m"


@pytest.mark.parametrize("made", [missing, empty, a_file, half_downloaded, a_config_torn])
@pytest.mark.parametrize("setting", ["model.path={0}", "judge.general={{backend: vllm, path: '{0}'}}"])
def test_a_wrong_model_is_one_line_of_a_dry_run_and_makes_no_folder(
    made: Callable[[Path], Path], setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made(tmp_path)
    assert train(["--dry-run", setting.format(model), f"out={tmp_path / 'runs'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(model) in line
    assert not (tmp_path / "runs").exists()


MODEL_FILES = {
    "config.json": "{}", "model.safetensors": "w" * 5000, "tokenizer.json": "{}", "tokenizer_config.json": "{}",
    "generation_config.json": "{}",
}  # fmt: skip


def a_model(folder: Path, **changed: str) -> Path:
    folder.mkdir()
    for name, text in (MODEL_FILES | changed).items():
        (folder / name).write_text(text)
    return folder


def copied_later(folder: Path) -> Path:
    made = a_model(folder / "copy")
    for path in made.iterdir():
        os.utime(path, (1, 1))
    return made


def as_a_snapshot(folder: Path) -> Path:
    blobs, made = a_model(folder / "blobs"), folder / "snapshot"
    made.mkdir()
    for path in blobs.iterdir():
        (made / path.name).symlink_to(path)
    return made


def with_a_readme(folder: Path) -> Path:
    return a_model(folder / "copy", **{"README.md": "A model.", ".gitattributes": "*.bin filter=lfs"})


def with_a_cache(folder: Path) -> Path:
    made = a_model(folder / "copy")
    (made / ".cache").mkdir()
    (made / ".cache" / "x.metadata").write_text("x")
    return made


def through_a_link(folder: Path) -> Path:
    (folder / "link").symlink_to(a_model(folder / "copy"))
    return folder / "link"


@pytest.mark.parametrize("made", [copied_later, as_a_snapshot, with_a_readme, with_a_cache, through_a_link])
def test_a_model_is_the_same_wherever_it_lies(made: Callable[[Path], Path], tmp_path: Path) -> None:
    assert fingerprint(made(tmp_path)) == fingerprint(a_model(tmp_path / "m"))


@pytest.mark.parametrize(
    "changed",
    [
        {"model.safetensors": "w" * 2500 + "v" + "w" * 2499}, {"config.json": '{"a": 1}'}, {"tokenizer.json": "[]"},
        {"chat_template.jinja": "x"}, {"generation_config.json": '{"eos_token_id": 5}'},
        {"tokenizer_config.json": "[]"},
        {"model-00002-of-00002.safetensors": "w"},
    ],
)  # fmt: skip
def test_another_model_is_another_wherever_it_lies(changed: dict[str, str], tmp_path: Path) -> None:
    assert fingerprint(a_model(tmp_path / "n", **changed)) != fingerprint(a_model(tmp_path / "m"))


@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.9])
def test_weights_that_differ_behind_their_beginning_are_others(place: float, tmp_path: Path) -> None:
    size = 40 << 20
    for name in ("one", "two"):
        with (a_model(tmp_path / name) / "model.safetensors").open("wb") as file:
            file.truncate(size)
    with (tmp_path / "two" / "model.safetensors").open("r+b") as file:
        file.seek(int(place * size))
        file.write(b"layer" * 60_000)
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")


def renamed(folder: RunFolder, tmp_path: Path) -> RunFolder:
    folder.path.rename(tmp_path / "other")
    return RunFolder(config(tmp_path, "name=other"))


def in_another_place(folder: RunFolder, tmp_path: Path) -> RunFolder:
    (tmp_path / "archive").mkdir()
    folder.path.rename(tmp_path / "archive" / folder.path.name)
    return RunFolder(config(tmp_path / "archive"))


def a_copy(folder: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(folder.path, tmp_path / "copies" / folder.path.name)
    return RunFolder(config(tmp_path / "copies"))


def with_a_moved_model(folder: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(config(tmp_path, f"model.path={tmp_path / 'elsewhere'}"))


def with_another_source(folder: RunFolder, tmp_path: Path) -> RunFolder:
    folder.close()
    return RunFolder(config(tmp_path, "data.sources.unused={kind: file, path: moved.csv}"))


@pytest.mark.parametrize("moved", [renamed, in_another_place, a_copy, with_a_moved_model, with_another_source])
def test_a_run_of_the_same_content_goes_on_wherever_it_lies(
    moved: Callable[[RunFolder, Path], RunFolder], tmp_path: Path
) -> None:
    made = RunFolder(config(tmp_path))
    made.open(CONTENT)
    record(made, 1)
    made.close()
    again = moved(made, tmp_path)
    again.open(CONTENT)
    again.close()
    assert len(read_evidence(again.path).rounds) == 1
    with pytest.raises(ConfigError, match="content of model"):
        again.open(CONTENT | {"model": "m2"})


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    made = RunFolder(config(tmp_path))
    made.open(CONTENT)
    record(made, 1, 2)
    made.publish_summary(RunSummary({}, Delta(Interval()), {}))
    made.close()
    return made


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["checkpoint.keep=7"], ["checkpoint.keep"]),
        (["limits.update=99"], ["limits.update"]),
        (["alarms.always_refuse=stop"], ["alarms.always_refuse"]),
        (["evaluation.every=4", "limits.sync=9"], ["evaluation.every", "limits.sync"]),
        ([], []),
    ],
)
def test_a_finished_run_stays_byte_for_byte(
    settings: list[str], names: list[str], finished: RunFolder, tmp_path: Path
) -> None:
    before = files_of(finished.path)
    again = RunFolder(config(tmp_path, *settings))
    again.open(CONTENT)
    assert again.not_applied() == names
    again.close()
    assert files_of(finished.path) == before


@pytest.mark.parametrize("changed", ["seed=4", "policy.learning_rate=1e-3", "data.train=quickstart:9"])
def test_a_finished_run_with_another_recipe_is_refused_and_stays(
    changed: str, finished: RunFolder, tmp_path: Path
) -> None:
    before = files_of(finished.path)
    with pytest.raises(ConfigError, match=changed.split("=")[0]):
        RunFolder(config(tmp_path, changed)).open(CONTENT)
    assert files_of(finished.path) == before


@pytest.mark.parametrize(
    "error",
    [
        ModelError("a\u2028b\r\nc\x85d"), MemoryError(), ExceptionGroup("two", [ValueError("harm"), OSError("x")]),
        RuntimeError("harm"), KeyError("harm"), OSError(28, "No space left on device"),
        UnicodeEncodeError("utf-8", "harm\ud800", 4, 5, "surrogates not allowed"), OSError(), ConfigError("\ud800"),
    ],
    ids=repr,
)  # fmt: skip
def test_every_failure_leaves_one_line_without_a_text(error: BaseException, tmp_path: Path) -> None:
    made = RunFolder(config(tmp_path))
    made.open()
    made.record_failure(error)
    made.close()
    (reason,) = [value for name, value in facts(read_status(made.path)) if name == "reason"]
    assert reason.strip() and len(reason.splitlines()) == 1 and "harm" not in reason


def with_config(folder: RunFolder, change: Callable[[dict[str, Any]], object]) -> None:
    import yaml

    tree = yaml.safe_load(folder.config.read_text())
    change(tree)
    folder.config.write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["judge"].update(tomorrow={"a": [1]}),
        lambda tree: tree["data"].update(tomorrow=None),
        lambda tree: tree.update(tomorrow=[1, 2]),
        lambda tree: tree.pop("alarms"),
        lambda tree: tree["limits"].pop("update"),
    ],
    ids=["in a judge", "in data", "a list", "without a section", "without a key"],
)
def test_a_config_of_another_version_is_read(
    change: Callable[[dict[str, Any]], object], finished: RunFolder, tmp_path: Path
) -> None:
    with_config(finished, change)
    assert read_config(finished.config) == config(tmp_path)
    assert read_status(finished.path).state == "finished"
    assert len(read_evidence(finished.path).rounds) == 2


@pytest.mark.parametrize("file", ["metrics.jsonl", "summary.json"])
def test_records_of_another_version_are_read(file: str, finished: RunFolder) -> None:
    path = finished.path / file
    lines = [path.read_text()] if file == "summary.json" else path.read_text().split("\n")[:-1]
    rows = [json.loads(line) | {"tomorrow": {"a": 1}} for line in lines]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_status(finished.path).state == "finished"
    assert len(read_evidence(finished.path).rounds) == 2


@pytest.mark.parametrize("text", ["", "[]", "a: [", "\x00", "7"])
def test_a_config_that_is_none_is_one_line(text: str, finished: RunFolder) -> None:
    finished.config.write_text(text)
    with pytest.raises(ReportError) as caught:
        read_config(finished.config)
    assert len(str(caught.value).splitlines()) == 1


def test_what_else_lies_beside_cached_judgements_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)) * 9)
    asyncio.run(cached(lambda _: _two(), tmp_path, "a")(question("a")))
    store = JudgementStore(tmp_path, "b", max_bytes=1)
    key = judgement_key("vllm:m@1", question("a"))
    assert store.get(key) is None
    store.put(key, Reply("r", 1))
    assert JudgementStore(tmp_path, "c").get(key) == Reply("r", 1)
    assert (tmp_path / "folder.jsonl").is_dir() and (tmp_path / "notes.txt").exists()


async def _two() -> Reply:
    return Reply('{"level": 2}', 1, (0.1, 0.8, 0.1))


def test_the_last_of_two_replies_to_one_question_counts_in_its_own_store(tmp_path: Path) -> None:
    store = JudgementStore(tmp_path, "a")
    key = judgement_key("j", question("a"))
    store.put(key, Reply("one", 1))
    store.put(key, Reply("two", 2))
    assert store.get(key) == JudgementStore(tmp_path, "b").get(key) == Reply("two", 2)


# --- chat templates that refuse or are missing ----------------------------------------------------------------------

HEAD = "{% for m in messages %}"
TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
TAIL = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def templated(template: str | None) -> families.Family:
    return replace(families.family("chatml"), name="mine", template=template)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}", "{{ messages[0]['content'].no_such() }}", "{{ 1 / 0 }}", "{{ undefined.x }}", "",
        "{% include 'other.jinja' %}", "{{ messages | no_such_filter }}", "{{ raise_exception('a\nb') }}",
    ],
)  # fmt: skip
def test_a_template_that_fails_is_one_line(template: str) -> None:
    with pytest.raises(ModelError) as caught:
        format_of(templated(template))
    assert str(caught.value).startswith("mine: ") and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
        "{% if m['role'] not in ['user', 'assistant'] %}{{ raise_exception('only two roles') }}{% endif %}",
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}",
        "{% if m['role'] == 'system' %}{{ m['content'].no_such() }}{% endif %}",
    ],
)
def test_a_system_text_that_a_template_refuses_stands_before_the_user_s(refusal: str) -> None:
    made = format_of(templated(HEAD + refusal + TURN + TAIL))
    (turn,) = made.turns("Be kind.", "Hi")
    assert turn["role"] == "user" and turn["content"].index("Be kind.") < turn["content"].index("Hi")


# --- a guard sees the material --------------------------------------------------------------------------------------

SHOWN = "[{{ m['role'] }}] {{ m['content'] }}\n"


@pytest.mark.parametrize(
    "template",
    [
        HEAD + "{{ m['content'] | upper }}" + "{% endfor %}",
        HEAD + "{{ m['content'][:4] }}" + "{% endfor %}",
        "{{ messages[-1]['content'] }}",
        "{{ messages[0]['content'] }}",
        HEAD + "{{ m['content'] | length }}" + "{% endfor %}",
        HEAD + "{% if loop.last %}" + SHOWN + "{% endif %}{% endfor %}",
        HEAD + "{{ m['text'] }}{% endfor %}",
    ],
)
def test_a_template_that_changes_the_material_makes_no_prompt(template: str) -> None:
    with pytest.raises(JudgeFailure):
        rendered(TURNS, through(template))


def test_a_template_that_cuts_an_earlier_thought_cuts_no_answer_in_silence() -> None:
    cut = HEAD + "{{ m['content'].split('</think>')[-1] }}\n{% endfor %}"
    with pytest.raises((JudgeFailure, EngineError)):
        rendered((TURNS[0], Message("assistant", "Of flour.</think>Of salt.")), through(cut))


@pytest.mark.parametrize(
    "template",
    [
        HEAD + SHOWN + "{% endfor %}",
        HEAD + "{{ m['content'] | trim }}{% endfor %}",
        HEAD + "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}{% endfor %}",
        HEAD + "{% for part in m['content'] if part is mapping %}{{ part['text'] }}{% endfor %}{% endfor %}",
        HEAD + "{{ m['content'] }}{% endfor %}{{ messages[0]['content'] }}",
    ],
)
def test_a_template_that_shows_the_material_makes_a_prompt(template: str) -> None:
    text = rendered(TURNS, through(template))
    assert text.index("How is bread made?") < text.index("Of flour.")
