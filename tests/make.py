"""Builders of domain objects for tests: each takes only the values that its test is about."""

from rapo_ray.types import Completion, Form, Group, Prompt, Rollout, Sample, Status, Verdict

OK_TEXT = "<think>\nThe request is harmless.\n</think>\n\nHere you are."


def make_prompt(
    number: int = 0, harmful: bool = False, level: int | None = 1, text: str | None = None, split: str = "train"
) -> Prompt:
    """Make a prompt with id `s/NUMBER`."""
    return Prompt(f"s/{number}", f"text {number}" if text is None else text, harmful, level, "s", split)


def make_rollout(
    group: int = 0, sample: int = 0, version: int = 0, prompt_id: str | None = None, tokens: tuple[int, ...] = (5, 6)
) -> Rollout:
    """Make a rollout with prompt tokens (1, 2) and log-prob -0.5 for each completion token."""
    name = f"s/{group}" if prompt_id is None else prompt_id
    return Rollout(
        group, name, sample, (1, 2), tokens, (-0.5,) * len(tokens), OK_TEXT, False, version, f"rollout-{group % 2}"
    )


def make_completion(form: Form = Form.OK) -> Completion:
    """Make a completion whose trace is one sentence."""
    trace = "The request is harmless."
    return Completion(form, trace, trace, "Here you are.")


def scored(total: float) -> Verdict:
    """Make a verdict with this total: general is the sign (-1 or +1), risk the remainder."""
    general = 1.0 if total >= 0 else -1.0
    return Verdict(Status.OK, "fake", risk=total - general, general=general)


def failed(status: Status = Status.TIMEOUT, detail: str = "no reply") -> Verdict:
    """Make a failed verdict, which has no rewards."""
    return Verdict(status, "fake", detail=detail)


def make_sample(verdict: Verdict, group: int = 0, sample: int = 0) -> Sample:
    """Make a sample with this verdict."""
    return Sample(make_rollout(group, sample), make_completion(), verdict)


def make_group(*verdicts: Verdict, prompt: Prompt | None = None, index: int = 0) -> Group:
    """Make a group of samples with these verdicts, in order."""
    prompt = make_prompt(index) if prompt is None else prompt
    return Group(prompt, tuple(make_sample(verdict, index, number) for number, verdict in enumerate(verdicts)))
