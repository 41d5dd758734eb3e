"""RAPO's reward inside TRL and OpenRLHF: one real step of TRL, the real executors of OpenRLHF."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rapo_ray.bridges.trl import TrlReward, training_rows
from rapo_ray.config.load import load_config
from rapo_ray.errors import DataError, JudgeError
from rapo_ray.trainer import flash_attn_stand_in
from tests.judge_server import Scripted, judge_server, probed
from tests.tiny import tiny_model

pytestmark = pytest.mark.cluster  # heavy libraries, no Ray

REFUSAL = (
    "<think>\nThe request seeks to hurt a person, which is a harm I must not support. The intent is plainly dangerous."
    "\n</think>\n\nI'm sorry, but I can't help with hurting a person."
)
REQUEST = "How do I hurt a person?"


def recipe(folder: Path, **judge: Any) -> str:
    """A recipe file with the given judge."""
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"judge": judge} if judge else {}), encoding="utf-8")
    return str(path)


def test_a_trl_trainer_takes_a_step_on_our_reward(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model = tiny_model(tmp_path / "model", seed=0)
    settings = GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        max_steps=1,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
    )
    config = load_config("quickstart")
    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=TrlReward(config, max_completion_length=8),
        args=settings,
        train_dataset=Dataset.from_list(training_rows(config)[:4]),
    )
    trainer.train()
    (logged,) = [line for line in trainer.state.log_history if "rewards/rapo/mean" in line]
    assert logged["rewards/rapo/mean"] == -2.0  # a random model's completions are malformed, all of them


def test_the_trl_reward_is_the_judge_s_total() -> None:
    reward = TrlReward(load_config("quickstart"))
    prompts = [REQUEST, [{"role": "system", "content": "x"}, {"role": "user", "content": REQUEST}]]
    answers = [REFUSAL, [{"role": "assistant", "content": "No thoughts."}]]
    assert reward(prompts, answers, [[1], [1]], harmful=[True, True], level=[1, 1]) == [2.0, -2.0]
    with pytest.raises(DataError, match="no column 'harmful'"):
        reward(prompts, answers, [[1], [1]])


def test_in_trl_a_failed_judge_is_none(tmp_path: Path) -> None:
    with judge_server(probed(lambda body, before: Scripted(status=404))) as server:
        http = {"backend": "http", "model": "m", "url": server.url, "allow_private": True}
        reward = TrlReward(load_config(recipe(tmp_path, risk=http, cache=False)))
        assert reward([REQUEST, REQUEST], [REFUSAL, "none"], [[1], [1]], harmful=[True, True]) == [None, -2.0]


@pytest.fixture
def openrlhf() -> Any:
    """The bridge, without a reward cached by another test."""
    flash_attn_stand_in.provide()  # OpenRLHF's package imports it
    from rapo_ray.bridges import openrlhf

    openrlhf._bridge.cache_clear()
    yield openrlhf
    openrlhf._bridge.cache_clear()


LABEL = json.dumps({"request": REQUEST, "harmful": True, "level": 1})
PROMPT = f"<|im_start|>user\n{REQUEST}<|im_end|>\n<|im_start|>assistant\n"


def test_openrlhf_loads_the_file_and_calls_it(openrlhf: Any) -> None:
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    executor = SingleTurnAgentExecutor(openrlhf.__file__)
    queries = [f"{PROMPT}{REFUSAL}<|im_end|>", f"{PROMPT}{REFUSAL}"]
    results = asyncio.run(executor._fetch_rewards_via_func(queries, [PROMPT] * 2, [LABEL] * 2))
    assert [float(one["rewards"]) for one in results] == [2.0, -2.0]  # the second never ended: truncated
    assert [float(one["scores"]) for one in results] == [1.0, 0.0]
    assert float(results[0]["extra_logs"]["rapo_risk"]) == 1.0


@pytest.mark.parametrize("end", ["<|im_end|>", "<｜end▁of▁sentence｜>", "<end_of_turn>", "</s>", "<|return|>"])
def test_openrlhf_sees_the_end_of_every_common_turn(openrlhf: Any, end: str) -> None:
    assert openrlhf.reward_func([f"{PROMPT}{REFUSAL}{end}"], [PROMPT], [LABEL])["rewards"].tolist() == [2.0]


# A form that opens the thinking in the prompt, has marks that are special tokens and an end of its own.
SPECIAL_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{{ '[TURN_END]' if message['role'] == 'assistant' else '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n[THINK]{% endif %}"
)
SPECIAL_MARKS = ("[THINK]", "[/THINK]", "[TURN_END]")
SPECIAL_REFUSAL = (
    "The request seeks to hurt a person, which is a harm I must not support. The intent is plainly dangerous."
    "[/THINK]I'm sorry, but I can't help with hurting a person."
)


def test_openrlhf_reads_the_format_of_the_model_it_trains(
    openrlhf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tmp_path / "model", seed=0, template=SPECIAL_TEMPLATE, special_tokens=SPECIAL_MARKS)
    monkeypatch.setenv("RAPO_BRIDGE_MODEL", str(model))
    texts = [f"{PROMPT}{SPECIAL_REFUSAL}[TURN_END]", f"{PROMPT}{SPECIAL_REFUSAL}", f"{PROMPT}{REFUSAL}[TURN_END]"]
    rewards = openrlhf.reward_func(texts, [PROMPT] * 3, [LABEL] * 3)["rewards"].tolist()
    assert rewards == [2.0, -2.0, -2.0]  # whole, cut, and in a form that is not the model's


def test_trl_reads_the_format_of_the_model_it_trains(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = tiny_model(tmp_path / "model", seed=0, template=SPECIAL_TEMPLATE, special_tokens=SPECIAL_MARKS)
    tokenizer = AutoTokenizer.from_pretrained(model)
    reward = TrlReward(load_config("quickstart"), tokenizer=tokenizer)
    ids = tokenizer.encode(f"{SPECIAL_REFUSAL}[TURN_END]", add_special_tokens=False)
    shown = tokenizer.decode(ids, skip_special_tokens=True)  # as TRL decodes: without the mark
    assert "[/THINK]" not in shown
    assert reward([REQUEST], [shown], [ids], harmful=[True], level=[1]) == [2.0]


def test_the_openrlhf_agent_takes_one_turn(openrlhf: Any) -> None:
    from tests.tiny import tiny_tokenizer

    tokens = tiny_tokenizer()

    class Engine:
        async def generate(self, prompt_tokens: list[int], sampling: Any, multi_modal_data: Any) -> Any:
            output = SimpleNamespace(token_ids=tokens.encode(REFUSAL).ids, text=REFUSAL, finish_reason="stop")
            return SimpleNamespace(outputs=[output])

    def tokenizer(text: str, **_: Any) -> Any:
        import torch

        return {"input_ids": torch.tensor([tokens.encode(text).ids])}

    sampling = SimpleNamespace(max_tokens=100, logprobs=None)
    executor = openrlhf.AgentExecutor()
    result = asyncio.run(executor.execute(PROMPT, LABEL, sampling, 2048, tokenizer, Engine()))
    assert result["reward"] == 2.0
    assert float(result["scores"]) == 1.0


def test_in_openrlhf_a_failed_judge_and_a_foreign_label_raise(
    openrlhf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with judge_server(probed(lambda body, before: Scripted(status=404))) as server:
        http = {"backend": "http", "model": "m", "url": server.url, "allow_private": True}
        monkeypatch.setenv("RAPO_BRIDGE_CONFIG", recipe(tmp_path, risk=http, cache=False))
        with pytest.raises(JudgeError, match="HTTP 404"):
            openrlhf.reward_func([f"{PROMPT}{REFUSAL}<|im_end|>"], [PROMPT], [LABEL])
    with pytest.raises(DataError, match="is not what RAPO needs"):
        openrlhf.reward_func([f"{PROMPT}x"], [PROMPT], ["harmful"])
    with pytest.raises(DataError, match="does not start with its prompt"):
        openrlhf.reward_func(["x"], [PROMPT], [LABEL])


def test_the_rows_for_openrlhf_hold_what_the_reward_reads(openrlhf: Any) -> None:
    row = openrlhf.training_rows(load_config("quickstart"))[0]
    assert [turn["role"] for turn in row["input"]] == ["system", "user"]
    assert json.loads(row["label"])["request"] == row["input"][1]["content"]
