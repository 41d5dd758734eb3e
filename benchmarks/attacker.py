"""The bandit's share of a round: attacks on 384 prompts, with guard and outcomes, against the seconds of a round.

    python -m benchmarks.attacker --round-seconds 75

Lengths in tokens are taken from the texts: no engine is involved, and the engines' own count is not timed.
"""

import argparse
import random
import statistics
import sys
import time

from benchmarks.rows import Row, add_rows_option, print_table, value_range, write_rows

PROMPTS = 384
SAMPLES = 4
SUITE = 500
GOAL_SHARE = 0.1


def main() -> int:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.attacker", description=__doc__)
    parser.add_argument("--round-seconds", type=float, default=60.0, help="of the round that it is compared with")
    parser.add_argument("--repeats", type=int, default=5, help="number of rounds")
    add_rows_option(parser)
    options = parser.parse_args()
    seconds = rounds(options.repeats)
    share = statistics.median(seconds) / options.round_seconds
    print_table(
        f"the bandit over {PROMPTS} prompts, all of them attacked, CPU time of one core",
        ("seconds", "range", "of a round of", "share", "goal"),
        [
            (
                f"{statistics.median(seconds):.3f}", value_range(seconds, 3), f"{options.round_seconds:g} s",
                f"{share:.2%}", f"{GOAL_SHARE:.0%}",
            )
        ],
    )  # fmt: skip
    shares = value_range([one / options.round_seconds for one in seconds], 4)
    name = f"the bandit's share of a round of {options.round_seconds:g} s"
    write_rows(options.rows, [Row(name, "", share, None, None, f"{GOAL_SHARE:g}", share <= GOAL_SHARE, shares)])
    return 0


def rounds(count: int) -> list[float]:
    """Seconds of one core for the attacks of each round, and for learning from them."""
    from rapo_ray.attacks.bandit import Bandit
    from rapo_ray.attacks.split import split_families
    from rapo_ray.data.contamination import Guard
    from rapo_ray.orchestrator.prompts import Limits, RoundAttacks
    from rapo_ray.reward.outcomes import outcomes
    from rapo_ray.types import Completion, Form, Group, Prompt, Rollout, Sample, Status, Verdict

    generator = random.Random(0)
    words = [f"word{number}" for number in range(2000)]

    def text() -> str:
        return " ".join(generator.choices(words, k=20))

    batch = [Prompt(f"s/{number}", text(), number % 2 == 0, 1, "s", "train") for number in range(PROMPTS)]
    suite = [Prompt(f"e/{number}", text(), True, 1, "e", "test") for number in range(SUITE)]
    limits = Limits(Guard(suite), lambda prompts: [len(prompt.text) // 4 for prompt in prompts], 10_000)
    attacker = Bandit(split_families().trained, 3, seed=0)
    attacks = RoundAttacks(attacker, PROMPTS // 2, limits, seed=0)

    def sample(index: int, prompt: Prompt, number: int) -> Sample:
        rollout = Rollout(index, prompt.id, number, (), (), (), "", False, 0, "engine")
        general = generator.choice((-1.0, 1.0))
        return Sample(rollout, Completion(Form.OK, "", "", ""), Verdict(Status.OK, "j", risk=1.0, general=general))

    seconds = []
    for number in range(1, count + 1):
        started = time.process_time()
        made, _ = attacks.replace(batch, number)
        spent = time.process_time() - started
        groups_P = [
            Group(prompt, tuple(sample(index, prompt, one) for one in range(SAMPLES)))
            for index, prompt in enumerate(made)
        ]
        started = time.process_time()
        attacker.learn(outcomes(groups_P))
        seconds.append(spent + time.process_time() - started)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
