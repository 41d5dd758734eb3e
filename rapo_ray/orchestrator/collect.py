"""Groups of a round: prompts sampled and judged side by side, zero-variance groups resampled."""

from collections.abc import Iterator
from dataclasses import replace

from rapo_ray.config import RunConfig
from rapo_ray.errors import EngineError
from rapo_ray.reward.credit import has_signal
from rapo_ray.roles import Inference, Judged, Responses
from rapo_ray.types import Group, Prompt, Rollout, Sample


class RoundCollector:
    """Collects the groups of training rounds, all sampled and judged in one way."""

    def __init__(self, inference: Inference, config: RunConfig) -> None:
        self._inference = inference
        self._config = config

    def collect(self, prompts_P: list[Prompt], number: int, judged: Judged) -> tuple[Group, ...]:
        """A round's groups; one without a signal is resampled with other seeds, `credit.resample` times at most."""
        samples, credit = self._config.samples_per_prompt, self._config.credit
        groups_P = list(collect_groups(self._inference, prompts_P, range(samples), number, judged))
        for attempt in range(1, credit.resample + 1):
            degenerate = [index for index, group in enumerate(groups_P) if not has_signal(group, credit)]
            if not degenerate:
                break
            numbers = range(attempt * samples, (attempt + 1) * samples)
            prompts = [prompts_P[index] for index in degenerate]
            resampled = collect_groups(self._inference, prompts, numbers, number, judged)
            for index, group in zip(degenerate, resampled, strict=True):
                groups_P[index] = _moved_to(index, group)
        return tuple(groups_P)


def _moved_to(index: int, group: Group) -> Group:
    samples_G = tuple(replace(s, rollout=replace(s.rollout, group=index)) for s in group.samples_G)
    return replace(group, samples_G=samples_G)


def collect_groups(
    inference: Inference, prompts_P: list[Prompt], samples: range, number: int, judged: Judged
) -> tuple[Group, ...]:
    """Generate and judge side by side; waits for the last verdict, groups come back in the order of the prompts.

    Raises EngineError for a rollout that comes twice, was not requested, or never comes.
    """
    rollouts: dict[tuple[int, int], Rollout] = {}
    judgements: dict[tuple[int, int], Sample] = {}
    expected = len(prompts_P) * len(samples)

    def responses() -> Iterator[Responses]:
        for batch in inference.rollouts.generate(prompts_P, samples, number):
            for rollout in batch:
                key = rollout.key
                if key in rollouts or rollout.sample not in samples or not 0 <= rollout.group < len(prompts_P):
                    raise EngineError(
                        f"round {number}: completion {key} of {rollout.engine} came twice or was never requested"
                    )
                rollouts[key] = rollout
            yield [rollout.response for rollout in batch]

    for response, completion, verdict in inference.judge.score(prompts_P, responses()):
        key = (response.group, response.sample)
        judgements[key] = Sample(rollouts[key], completion, verdict)
        judged(len(judgements), expected)
    if missing := expected - len(judgements):
        raise EngineError(f"round {number}: {missing} of {expected} completions never came back")
    return tuple(
        Group(prompt, tuple(judgements[index, sample] for sample in samples)) for index, prompt in enumerate(prompts_P)
    )
