"""Guards on a real engine: what the model reads holds the request and the answer, and labels have probabilities."""

import json
import subprocess
import sys
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from rapo_ray.engines.environment import engine_environment
from tests.e2e.conftest import REPOSITORY, environment
from tests.e2e.guard_child import ANSWER, REQUEST
from tests.tiny import tiny_model

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Verdicts of guards of every kind, and the prompts that their model was given, from a process of its own."""
    model = tiny_model(tmp_path_factory.mktemp("guard") / "model", seed=0, max_positions=4096)
    tokenizer, weights = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    tokenizer.add_tokens(["Yes", "No"])  # one token each, as in a guard's own tokenizer
    weights.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.save_pretrained(model)
    weights.save_pretrained(model)
    command = [sys.executable, "-m", "tests.e2e.guard_child", str(model)]
    env = environment(**engine_environment("cpu", 1, 1))
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    parsed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return parsed


@pytest.mark.parametrize("contents", ["texts", "parts"])
def test_the_prompt_holds_the_material_and_the_label_its_probability(report: dict[str, Any], contents: str) -> None:
    verdict, prompts = report[contents]["verdict"], report[contents]["prompts"]
    assert prompts == [f"<|im_start|>{REQUEST}<|im_end|><|im_start|>{ANSWER}<|im_end|>"]
    assert verdict["status"] == "ok"
    assert (verdict["general"] > 0) == (verdict["general_score"] > 0.5)
    assert 0 < verdict["general_score"] < 1


def test_texts_and_parts_make_the_same_prompt_and_verdict(report: dict[str, Any]) -> None:
    assert report["texts"]["prompts"] == report["parts"]["prompts"]
    assert report["texts"]["verdict"]["general_score"] == report["parts"]["verdict"]["general_score"]


@pytest.mark.parametrize(
    ("template", "why"), [("dropped", "drops the text of assistant, user"), ("no template", "only two turns")]
)
def test_a_template_that_shows_nothing_gives_a_failed_verdict(report: dict[str, Any], template: str, why: str) -> None:
    verdict, prompts = report[template]["verdict"], report[template]["prompts"]
    assert prompts == []
    assert (verdict["status"], verdict["general"], verdict["general_score"]) == ("transport", None, None)
    assert why in verdict["detail"]


def test_a_reply_cut_at_its_limit_is_no_verdict(report: dict[str, Any]) -> None:
    assert report["cut"]["verdict"]["status"] in ("truncated", "parse")  # a random model never says "safe"
    assert ANSWER in report["cut"]["prompts"][0]


def test_a_guard_whose_template_is_text_needs_no_chat_template(report: dict[str, Any]) -> None:
    verdict, prompts = report["raw"]["verdict"], report["raw"]["prompts"]
    assert len(prompts) == 4
    assert all(f"Human Question: {REQUEST}\n" in prompt and f"Response: {ANSWER}\n" in prompt for prompt in prompts)
    assert verdict["status"] == "ok"
    assert 0 < verdict["general_score"] < 1
