"""Third-party programs, in their own environment, against an endpoint: harnesses, SDKs and schemathesis."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import REPOSITORY, environment
from tests.e2e.endpoint import Endpoint, engines_of
from tests.judge_server import Scripted, judge_server

pytestmark = pytest.mark.e2e

CLIENTS = Path(f"{sys.prefix}-clients")  # the Makefile creates it beside the environment of this test
QUESTIONS = 20
DOCS = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
SDKS = ("langchain", "litellm", "pydantic_ai", "llama_index", "llm", "dspy")
OLDER = {"PYTHONPATH": str(CLIENTS / "openai-2")}  # the SDK of the major version before


def client(program: str, *arguments: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program of that environment to its end, with its caches and traces in `home`."""
    assert (CLIENTS / ".ready").exists(), f"{CLIENTS} is missing: make setup-clients"
    return subprocess.run(
        [str(CLIENTS / "bin" / program), *arguments],
        cwd=REPOSITORY,
        env=environment(HF_HOME=str(home / "hf"), XDG_DATA_HOME=str(home / "data"), **env),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def assert_documented(name: str, version: str, streamed: bool = True, turns: bool = True) -> None:
    """Check that docs/serving.md has a line for a client that has just passed."""
    works = ("yes", "yes" if streamed else "-", "yes" if turns else "-")
    line = f"| {name} | {version} | {' | '.join(works)} |"
    assert line in DOCS.splitlines(), f"docs/serving.md lacks the line: {line}"


def installed(package: str) -> str:
    """The version of a package in the clients' environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    python = str(CLIENTS / "bin" / "python")
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def lm_eval(at: Endpoint, out: Path, *more: str, retries: int = 3) -> subprocess.CompletedProcess[str]:
    """The command in docs/evaluation.md."""
    model = (
        f"model={at.model},base_url={at.url}/chat/completions,num_concurrent=2,max_retries={retries},"
        "think_end_token=</think>"
    )
    return client(
        "lm_eval", "run", "--model", "local-chat-completions", "--model_args", model, "--apply_chat_template",
        "--include_path", "tests/clients", "--tasks", "rapo_questions", "--output_path", str(out), "--log_samples",
        *more, home=out.parent, OPENAI_API_KEY=at.key,
    )  # fmt: skip


def lm_eval_results(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results and the rows of lm-eval."""
    (results,) = out.rglob("results_*.json")
    (samples,) = out.rglob("samples_*.jsonl")
    return json.loads(results.read_text()), [json.loads(line) for line in samples.read_text().splitlines()]


def inspect_ai(at: Endpoint, out: Path, *more: str, task: str = "rapo_questions") -> subprocess.CompletedProcess[str]:
    """The command in docs/evaluation.md."""
    return client(
        "inspect", "eval-set", f"tests/clients/inspect_task.py@{task}", "--model", f"openai-api/rapo/{at.model}",
        "--log-dir", str(out), "--log-format", "json", "--retry-attempts", "0", "--display", "plain",
        *more, home=out.parent, RAPO_BASE_URL=at.url, RAPO_API_KEY=at.key,
    )  # fmt: skip


def inspect_log(out: Path, task: str = "rapo-questions") -> dict[str, Any]:
    """The log of inspect-ai."""
    (log,) = out.glob(f"*_{task}_*.json")
    return json.loads(log.read_text())


def test_lm_eval_asks_every_question_and_a_wrong_key_fails(endpoint: Endpoint, tmp_path: Path) -> None:
    done = lm_eval(endpoint, tmp_path / "out")
    assert done.returncode == 0, done.stderr[-4000:]
    results, rows = lm_eval_results(tmp_path / "out")
    assert results["n-samples"]["rapo_questions"] == {"original": QUESTIONS, "effective": QUESTIONS}
    assert 0 <= results["results"]["rapo_questions"]["exact_match,none"] <= 1
    assert len({row["doc_id"] for row in rows}) == QUESTIONS
    assert all(row["resps"][0][0] for row in rows)  # each was answered with a text
    assert "API request failed" not in done.stderr
    assert_documented("lm-eval", installed("lm_eval"), streamed=False, turns=False)

    wrong = lm_eval(Endpoint(endpoint.url, "wrong", endpoint.model), tmp_path / "wrong", "--limit", "1", retries=1)
    assert wrong.returncode != 0
    assert not (tmp_path / "wrong").exists()


def test_inspect_asks_every_question_and_a_wrong_key_fails(endpoint: Endpoint, tmp_path: Path) -> None:
    done = inspect_ai(endpoint, tmp_path / "out")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    log = inspect_log(tmp_path / "out")
    assert log["status"] == "success"
    results = log["results"]
    assert (results["total_samples"], results["completed_samples"]) == (QUESTIONS, QUESTIONS)
    (score,) = results["scores"]
    assert (score["scored_samples"], score["unscored_samples"]) == (QUESTIONS, 0)
    assert 0 <= score["metrics"]["accuracy"]["value"] <= 1
    assert [sample.get("error") for sample in log["samples"]] == [None] * QUESTIONS
    assert all(sample["output"]["usage"]["output_tokens"] > 0 for sample in log["samples"])

    wrong = inspect_ai(Endpoint(endpoint.url, "wrong", endpoint.model), tmp_path / "wrong", "--limit", "1")
    assert wrong.returncode != 0
    assert inspect_log(tmp_path / "wrong")["status"] == "error"
    assert "401" in inspect_log(tmp_path / "wrong")["error"]["message"]


def test_inspect_sends_its_answers_back(endpoint: Endpoint, tmp_path: Path) -> None:
    done = inspect_ai(endpoint, tmp_path / "out", "--limit", "2", task="rapo_turns")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    log = inspect_log(tmp_path / "out", "rapo-turns")
    assert log["status"] == "success" and log["results"]["completed_samples"] == 2
    for sample in log["samples"]:
        assert [one["role"] for one in sample["messages"]] == ["user", "assistant"] * 2
    assert_documented("inspect-ai", installed("inspect_ai"), streamed=False)


@pytest.mark.parametrize("sdk", SDKS)
def test_an_sdk_works_by_default(endpoint: Endpoint, tmp_path: Path, sdk: str) -> None:
    """Its own answers, whole and streamed, come back to the endpoint as history."""
    older = OLDER if sdk == "llama_index" else {}
    done = client(
        "python", f"tests/clients/{sdk}_sdk.py", endpoint.model, home=tmp_path, OPENAI_BASE_URL=endpoint.url,
        OPENAI_API_BASE=endpoint.url, OPENAI_API_KEY=endpoint.key, LITELLM_LOCAL_MODEL_COST_MAP="True", **older,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["whole"] and report["streamed"]
    assert report["turns"] and set(report["turns"]) <= {"stop", "length"}
    assert report.get("batch", 2) == 2
    assert_documented(report["client"], report["version"])


def test_the_documented_clients_are_those_of_the_tests() -> None:
    section = DOCS.partition("### Clients\n")[2].partition("\n## ")[0]
    names = re.findall(r"^\| ([a-z-]+) \| [0-9.]+ \|", section, re.MULTILINE)
    assert sorted(names) == sorted(
        ["openai", "openai", "langchain-openai", "litellm", "pydantic-ai", "llama-index-llms-openai-like", "llm",
         "dspy", "inspect-ai", "lm-eval"]
    )  # fmt: skip


@pytest.mark.parametrize("major", [2, 3])
def test_an_openai_sdk_gets_the_same_answer_whole_and_streamed(endpoint: Endpoint, tmp_path: Path, major: int) -> None:
    older = OLDER if major == 2 else {}
    done = client(
        "python", "tests/clients/openai_sdk.py", endpoint.model,
        home=tmp_path, OPENAI_BASE_URL=endpoint.url, OPENAI_API_KEY=endpoint.key, **older,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["version"].startswith(f"{major}.")
    assert report["models"] == [endpoint.model]
    text, finish, usage = report["whole"]
    assert text and finish in ("stop", "length")
    assert 0 < usage["completion_tokens"] <= 16
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    streamed_text, streamed_finish, streamed_usage = report["streamed"]
    assert (streamed_text, streamed_finish) == (text, finish)
    assert streamed_usage["total_tokens"] == usage["total_tokens"]
    assert report["pieces"] > 1
    assert report["refused"] == 401
    assert set(report["turns"]) <= {"stop", "length"}
    assert_documented("openai", report["version"])


def test_schemathesis_finds_no_failure_of_the_server(endpoint: Endpoint, tmp_path: Path) -> None:
    schema = httpx.get(f"{endpoint.root}/openapi.json", headers=endpoint.headers(), timeout=60)
    assert {"/v1/models", "/v1/chat/completions", "/v1/completions", "/health"} <= schema.json()["paths"].keys()
    (tmp_path / "openapi.json").write_text(schema.text)
    engines = engines_of(endpoint)
    done = client(
        "st", "run", str(tmp_path / "openapi.json"), "--url", endpoint.root, "--header",
        f"Authorization: Bearer {endpoint.key}", "--checks", "not_a_server_error", "--max-examples", "25",
        "--seed", "1", "--generation-database", "none", "--no-color", "--request-timeout", "60", home=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert cases and cases[1] == cases[2] and int(cases[1]) > 300, done.stdout[-4000:]
    assert engines_of(endpoint) == engines, "a request killed the engine"


def test_both_harnesses_score_what_follows_the_thinking_alone(tmp_path: Path) -> None:
    """The thinking contains the right answer to the second question, the text after it that to the first."""

    def model(body: dict[str, Any], before: int) -> Scripted:
        message = {"role": "assistant", "content": "<think>\nIt could be 17.\n</think>\n\n12"}
        answer = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        }  # fmt: skip
        return Scripted(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})

    with judge_server(model) as served:
        at = Endpoint(served.url, "any", "m")
        harness = lm_eval(at, tmp_path / "lm", "--limit", "2")
        assert harness.returncode == 0, harness.stderr[-4000:]
        inspected = inspect_ai(at, tmp_path / "inspect", "--limit", "2")
        assert inspected.returncode == 0, inspected.stdout[-4000:] + inspected.stderr[-4000:]
    results, _ = lm_eval_results(tmp_path / "lm")
    assert results["results"]["rapo_questions"]["exact_match,none"] == 0.5
    (score,) = inspect_log(tmp_path / "inspect")["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == 0.5
    assert {header["authorization"] for header in served.headers} == {"Bearer any"}
