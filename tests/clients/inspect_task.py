"""An inspect-ai task over questions.jsonl: the answer must follow the thinking."""

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def rapo_questions() -> Task:
    """One greedy answer per question; inspect-ai itself separates `<think>` from the answer."""
    return Task(
        dataset=json_dataset("questions.jsonl", FieldSpec(input="question", target="answer")),
        solver=generate(),
        scorer=includes(),
        config=GenerateConfig(max_tokens=16, temperature=0.0),
    )
