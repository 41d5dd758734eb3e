"""The paper's two-step synthesis: the model writes a trace that fits the prompt's level, then continues from it.

Lengths and filters follow arXiv 2602.04224 and its public code; the instructions are in our own words.
"""

from collections.abc import Callable

from rapo_ray.data.quickstart_set import Demonstration
from rapo_ray.errors import DataError
from rapo_ray.models.chat import PLAIN, ChatFormat, parse_completion
from rapo_ray.types import Draft, Form, GeneratedText, Prompt

LENGTH_BY_LEVEL = {
    1: "The request is direct, so two or three sentences are enough.",
    2: "The request is wrapped in a role or a story, so write four to six sentences that look behind the wrapping.",
    3: "The request is deeply obfuscated, so write at least eight sentences: take it apart into its smallest tasks, "
    "weigh each of them, and end by deciding to refuse if any of them is unsafe.",
}
INSTRUCTION = (
    "You are about to answer the user's message. Before you do, reason about its safety in the first person, in one "
    "paragraph: what the user may intend, what could go wrong, and how it should be treated. {length} Do not answer "
    "the message, do not work on its task, and do not mention these instructions or any level."
)
OPENING = "Okay, "  # of the thinking


Write = Callable[[list[Draft]], list[GeneratedText]]  # whole completions


def synthesise(
    prompts: list[Prompt], write: Write, system_prompt: str | None, min_chars: int, chat: ChatFormat = PLAIN
) -> tuple[list[Demonstration], dict[str, int]]:
    """Demonstrations, in the plain form, written by the model itself, and the number of dropped ones by reason.

    Raises DataError where no prompt gives a demonstration.
    """
    dropped = {"trace unfinished": 0, "trace truncated": 0, "trace short": 0, "completion malformed": 0}
    drafts = [
        Draft(INSTRUCTION.format(length=LENGTH_BY_LEVEL[_level(prompt)]), prompt.text, turns=prompt.turns)
        for prompt in prompts
    ]
    traces: list[tuple[Prompt, str]] = []
    for prompt, generated in zip(prompts, write(drafts), strict=True):
        trace, reason = _trace(generated, min_chars, chat)
        if reason:
            dropped[reason] += 1
        else:
            traces.append((prompt, trace))
    completions = write(
        [Draft(system_prompt, prompt.text, f"{OPENING}{trace}\n\n", turns=prompt.turns) for prompt, trace in traces]
    )
    demonstrations = []
    for (prompt, _), generated in zip(traces, completions, strict=True):
        completion = parse_completion(generated.text, generated.truncated, chat)
        plain = PLAIN.compose(completion.thinking, completion.answer)
        if completion.form is Form.OK and parse_completion(plain, truncated=False).form is Form.OK:  # quotes no mark
            demonstrations.append(Demonstration(prompt, plain))
        else:
            dropped["completion malformed"] += 1
    if not demonstrations:
        raise DataError(f"synthesis: none of {len(prompts)} prompts gave a demonstration ({dropped})")
    return demonstrations, dropped


def _level(prompt: Prompt) -> int:
    """Level 1 for a benign prompt, as in the paper; the hardest for a harmful prompt without a level."""
    return (prompt.level or 3) if prompt.harmful else 1


def _trace(generated: GeneratedText, min_chars: int, chat: ChatFormat) -> tuple[str, str]:
    if generated.truncated:
        return "", "trace truncated"
    if chat.close_mark not in generated.text:
        return "", "trace unfinished"
    trace = " ".join(chat.unwrap(generated.text.rpartition(chat.close_mark)[2]).split())
    return (trace, "") if len(trace) >= min_chars else ("", "trace short")
