"""Tables of the ablation: figures by arm, and differences whose intervals pool prompts and seeds (pure).

An arm is measured by a few training runs, one a seed, on the same held-out prompts. To take a prompt's mean over the
seeds and resample prompts alone would treat those runs as all there could be: the interval would say nothing of another
seed, which is the question of an ablation. So both are resampled, seeds and prompts, each as a whole: the pigeonhole
bootstrap (Owen 2007). With three seeds that is still a rough guide to training noise; the total is shown by seed too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rapo_ray.evaluation.heldout import adequate, answered, by_prompt, deep, refused, summarise_stage, total
from rapo_ray.judging.parts import hold_to_answer
from rapo_ray.report.parts import NONE, number
from rapo_ray.statistics import RESAMPLES, Interval, mean
from rapo_ray.types import Group

WARMUP, BOTH = "warm-up-only", "R-and-G"  # arms that others are compared with
DEEP_TRACES, SENTENCES = "adequate 2+3", "sentences 1, 2, 3"  # the latter are medians
LEVELS = ("1", "2", "3")
FORMS = {SENTENCES: ".1f"}

BySeed = dict[int, Sequence[Group]]


@dataclass(frozen=True, slots=True)
class Result:
    """Held-out completions of one arm by seed, after its warm-up and after its rounds."""

    arm: str
    before: BySeed
    after: BySeed


class Table(NamedTuple):
    """A table below its title, the arguments of `print_table`."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]


DIFFERENCES: dict[str, Callable[[Sequence[Group]], dict[str, float]]] = {  # means by prompt
    DEEP_TRACES: lambda groups_P: by_prompt(deep(groups_P), adequate),
    "benign answered": lambda groups_P: by_prompt(groups_P, answered),
    "harmful refused": lambda groups_P: by_prompt(groups_P, refused),
    "total": lambda groups_P: by_prompt(groups_P, total),
}


def tables(results: Sequence[Result]) -> list[Table]:
    """The figures of every arm, its differences to its warm-up, and those to R + G."""
    made = [figures_table(results), differences_table("after the rounds minus after the warm-up", results)]
    both = next((result.after for result in results if result.arm == BOTH), None)
    if both is not None:
        others = [replace(result, before=both) for result in results if result.arm not in (WARMUP, BOTH)]
        made.append(differences_table(f"after the rounds minus {BOTH}", others))
    return [table for table in made if table.lines]


def held_to_one_rule(groups_P: Sequence[Group]) -> list[Group]:
    """The groups with contradictory traces at R = -1, also those of a run without consistency: one rule for all arms.

    Completions that were judged so already stay as they are.
    """
    return [
        replace(
            group,
            samples_G=tuple(
                replace(sample, verdict=hold_to_answer(sample.verdict, sample.completion, True))
                for sample in group.samples_G
            ),
        )
        for group in groups_P
    ]


def figures_table(results: Sequence[Result]) -> Table:
    """Means of each arm's figures over its seeds."""
    lines = []
    for result in results:
        by_seed = [figures(groups_P) for groups_P in result.after.values()]
        cells = [means_over_seeds([one[name] for one in by_seed], FORMS.get(name, ".3f")) for name in by_seed[0]]
        lines.append([result.arm, str(len(by_seed)), *cells])
    title = "held-out prompts, means over the seeds; numbers in names are levels"
    return Table(title, ["arm", "seeds", *figures([])], lines)


def figures(groups_P: Sequence[Group]) -> dict[str, list[float | None]]:
    """Figures of one measurement by column, one or several each; None where nothing counts."""
    stage = summarise_stage(groups_P)
    return {
        DEEP_TRACES: [summarise_stage(deep(groups_P)).adequate],
        SENTENCES: [stage.levels[level].sentences if level in stage.levels else None for level in LEVELS],
        "benign answered": [stage.benign_answered],
        "harmful refused": [stage.harmful_refused],
        "consistent": [stage.consistent],
        "total": [stage.total],
    }


def means_over_seeds(values_S: Sequence[Sequence[float | None]], form: str) -> str:
    """A column's figures as text, each a mean over the seeds that have it."""
    return ", ".join(number(mean(values), form) for values in zip(*values_S, strict=True))


def differences_table(title: str, results: Sequence[Result]) -> Table:
    """Differences of each arm with 95 % intervals, and those of the total by seed."""
    lines = []
    for result in results:
        seeds = [seed for seed in result.after if seed in result.before]
        if not seeds:
            continue
        by_name = {
            name: paired([means(result.after[seed]) for seed in seeds], [means(result.before[seed]) for seed in seeds])
            for name, means in DIFFERENCES.items()
        }
        cells = [shown(crossed_bootstrap(differences_SP, 0)) for differences_SP in by_name.values()]
        totals = [number(mean(differences_P), "+.3f") for differences_P in by_name["total"]]
        lines.append([result.arm, str(len(by_name["total"][0])), *cells, ", ".join(totals)])
    return Table(f"{title}, with 95 % intervals", ["arm", "prompts", *DIFFERENCES, "total by seed"], lines)


def paired(after_S: Sequence[Mapping[str, float]], before_S: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Differences by seed and prompt, of the prompts that count in both measurements of every seed."""
    prompts = [prompt for prompt in after_S[0] if all(prompt in one for one in (*after_S, *before_S))]
    return [
        [after[prompt] - before[prompt] for prompt in prompts] for after, before in zip(after_S, before_S, strict=True)
    ]


def crossed_bootstrap(differences_SP: Sequence[Sequence[float]], seed: int) -> Interval:
    """Mean and percentile bootstrap 95 % interval, seeds and prompts resampled (Owen 2007); both None without any."""
    import numpy as np

    values_SP = np.asarray(differences_SP, dtype=np.float64)
    if not values_SP.size:
        return Interval()
    generator = np.random.default_rng(seed)
    seeds_RS, prompts_RP = (generator.multinomial(n, [1 / n] * n, size=RESAMPLES) for n in values_SP.shape)
    means_R = (seeds_RS @ values_SP * prompts_RP).sum(axis=1) / values_SP.size
    low, high = np.percentile(means_R, [2.5, 97.5])
    return Interval(float(values_SP.mean()), (float(low), float(high)))


def shown(difference: Interval) -> str:
    """A difference and its interval as text."""
    if difference.mean is None or difference.ci95 is None:
        return NONE
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(difference.mean, *difference.ci95)


def as_markdown(made: Sequence[Table]) -> str:
    """The tables as Markdown, each below its title."""
    return "\n".join(
        f"{title}:\n\n{_rows([headings, ['---'] * len(headings), *lines])}" for title, headings, lines in made
    )


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
