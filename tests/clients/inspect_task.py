"""inspect-ai tasks over questions.jsonl: the answer must follow the thinking."""

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, user_message


@task
def rapo_questions() -> Task:
    """One greedy answer per question; inspect-ai itself separates `<think>` from the answer."""
    return Task(
        dataset=json_dataset("questions.jsonl", FieldSpec(input="question", target="answer")),
        solver=generate(),
        scorer=includes(),
        config=GenerateConfig(max_tokens=16, temperature=0.0),
    )


@task
def rapo_turns() -> Task:
    """Two turns about each question, the first answer in the second request."""
    return Task(
        dataset=json_dataset("questions.jsonl", FieldSpec(input="question", target="answer")),
        solver=[generate(), user_message("Say it once more."), generate()],
        scorer=includes(),
    )
