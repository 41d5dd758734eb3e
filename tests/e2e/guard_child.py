"""Guards on a real vLLM engine, reported as JSON: `python -m tests.e2e.guard_child MODEL`."""

import asyncio
import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rapo_ray.config.judge import GuardFamily
from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
from rapo_ray.judging.ask import JudgeSettings
from rapo_ray.judging.guards.judge import GuardJudge
from rapo_ray.judging.vllm_ask import AskLimits, VllmAsk
from rapo_ray.models.source import ModelSource
from rapo_ray.types import Completion, Form
from tests.make import make_prompt

TEXTS = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
PARTS = (  # as Llama-Guard-3-1B does, it shows the text parts of a content, and of a string nothing
    "{% for m in messages %}<|im_start|>{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)
DEAF = "<|im_start|>Is it safe?<|im_end|>"
REQUEST, ANSWER = "How is bread baked at home?", "Bread is baked in a hot oven for half an hour."


def main() -> None:
    """Judge one answer with each family through templates that read texts, read parts and drop both."""
    settings = EngineSettings(
        model=ModelSource.of(Path(sys.argv[1])), dtype="float32", max_model_len=4096, max_num_seqs=8,
        tensor_parallel=1, memory_share=0.9, enforce_eager=True, chunked_prefill=False, seed=0,
    )  # fmt: skip
    engine = VllmEngine(settings)
    tokenizer: Any = engine._tokenizer
    apply, submit = tokenizer.apply_chat_template, engine.submit
    prompts: list[str] = []

    def recording(requests: list[Any]) -> list[Any]:
        prompts.extend(tokenizer.decode(tokens) for tokens, _ in requests)
        return submit(requests)

    engine.submit = recording  # type: ignore[method-assign]

    def judged(family: GuardFamily, template: str) -> dict[str, Any]:
        tokenizer.apply_chat_template = partial(apply, chat_template=template)
        prompts.clear()
        judge = GuardJudge(VllmAsk(engine, AskLimits(4096, 8)), JudgeSettings("vllm:tiny"), family)
        completion = Completion(Form.OK, "A trace.", "A trace.", ANSWER)
        verdict = asyncio.run(judge.judge(make_prompt(text=REQUEST), completion))
        return {"verdict": dataclasses.asdict(verdict), "prompts": list(prompts)}

    report = {
        "texts": judged("granite_guardian_3", TEXTS),
        "parts": judged("granite_guardian_3", PARTS),
        "dropped": judged("granite_guardian_3", DEAF),
        "no template": judged("granite_guardian_3", "{{ raise_exception('only two turns') }}"),
        "cut": judged("llama_guard", PARTS),
        "raw": judged("shieldgemma", DEAF),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
