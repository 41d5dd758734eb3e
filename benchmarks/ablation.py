"""Ablation of the reward: the quickstart with each part of it alone, both, other credit schemes, and no consistency.

    python -m benchmarks.ablation --out runs/ablation --markdown ablation.md

By hand: it takes hours. Each seed has one warm-up, which is a row by itself and the start of all its other runs, in
folders `ARM-seedN` below `--out`. The same command resumes: a finished run is not run again, an unfinished one goes on
from its checkpoint. A finished run's checkpoints are removed, since nothing reads them: they are most of its size.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ablation_table import BOTH, WARMUP, Result, as_markdown, held_to_one_rule, tables
from benchmarks.rows import print_table
from rapo_ray.config import RunConfig
from rapo_ray.config.load import config_hash, load_config
from rapo_ray.errors import ConfigError, interrupt_on_sigterm, run_command
from rapo_ray.storage.layout import RunLayout, Stage
from rapo_ray.storage.reader import read_config, read_groups

RECIPE = "quickstart"
PAPER = "credit.scheme=grpo"
ARMS = {  # overrides of the recipe; beside the paper's scheme they are all that an arm changes
    WARMUP: ["rounds=0", PAPER],
    "R-only": ["credit.parts=risk", PAPER],
    "G-only": ["credit.parts=general", PAPER],
    BOTH: [PAPER],
    "gated": ["credit.scheme=gated"],
    "gdpo": ["credit.scheme=gdpo"],
    "consistency-off": ["judge.consistency=false", PAPER],
}
OWN = ("name", "out", "seed", "data.heldout", "credit.parts", "credit.scheme", "judge.consistency")
STOPPED = "stopped; the same command resumes"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the ablation: an arm with a seed."""

    arm: str
    seed: int
    overrides: Sequence[str]
    config: RunConfig

    @property
    def folder(self) -> RunLayout:
        """Paths of the run."""
        return RunLayout(self.config.folder)


def main() -> int:
    """Make the runs that are missing, print the tables and write them; returns 1 if a run failed."""
    parser = argparse.ArgumentParser("python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    parser.add_argument("--seeds", type=seeds_of, default=[0, 1, 2], help="seeds, as 0,1,2")
    parser.add_argument("--arms", type=arms_of, default=list(ARMS), help=f"some of {','.join(ARMS)}")
    parser.add_argument("--suite", default="quickstart-heldout:all", help="data.heldout of every run; all of a source")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run, such as rounds=2")
    interrupt_on_sigterm()
    return run_command(parser, None, ablate, STOPPED)


def seeds_of(text: str) -> list[int]:
    """Seeds of a list like `0,1,2`, each once."""
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds, such as 0,1,2")
    return list(dict.fromkeys(map(int, numbers)))


def arms_of(text: str) -> list[str]:
    """Arms of a list, in the order of ARMS."""
    names = text.split(",")
    if unknown := sorted(set(names) - set(ARMS)):
        raise argparse.ArgumentTypeError(f"no arm {', '.join(unknown)}; there are {', '.join(ARMS)}")
    return [name for name in ARMS if name in names]


def ablate(options: argparse.Namespace) -> int:
    """The command's body."""
    runs = plan(options.arms, options.seeds, options.out, options.suite, options.overrides)
    for run in runs:
        check_folder(run)
    failed = make(runs, train)
    chosen = [run for run in runs if run.arm in options.arms and run.folder.summary.is_file()]
    made = tables(results(chosen))
    for table in made:
        print_table(*table)
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(made), encoding="utf-8")
    for name in failed:
        print(f"{name} failed: the same command tries it again")
    return 1 if failed else 0


def plan(arms: Sequence[str], seeds: Sequence[int], out: Path, suite: str, extra: Sequence[str]) -> list[Run]:
    """All runs, a seed's warm-up before its other runs; raises ConfigError for settings that no run could have."""
    for override in extra:
        key = override.partition("=")[0]
        if clash := [own for own in OWN if own == key or own.startswith(f"{key}.")]:
            raise ConfigError(f"override `{override}`: the ablation sets {', '.join(clash)} itself: leave it out")
    names = [WARMUP, *(arm for arm in arms if arm != WARMUP)]
    runs = [plan_run(arm, seed, out, suite, extra) for seed in seeds for arm in names]
    if any(run.arm == WARMUP and run.config.warmup.source == "none" for run in runs):
        raise ConfigError("warmup.source=none leaves no warm-up for the runs to start from: leave it out")
    return runs


def plan_run(arm: str, seed: int, out: Path, suite: str, extra: Sequence[str]) -> Run:
    """One run; an arm's own overrides come last, so that no other replaces them. Raises ConfigError."""
    sft = RunLayout(out / run_name(WARMUP, seed)).sft
    start = [] if arm == WARMUP else [f"model.path={sft}", "warmup.source=none"]
    own = [f"data.heldout={suite}", f"seed={seed}", f"out={out}", f"name={run_name(arm, seed)}"]
    overrides = [*extra, *start, *own, *ARMS[arm]]
    return Run(arm, seed, overrides, load_config(RECIPE, overrides))


def run_name(arm: str, seed: int) -> str:
    """Name of a run and of its folder."""
    return f"{arm}-seed{seed}"


def check_folder(run: Run) -> None:
    """Refuse a folder of other settings, whose figures belong in another table; raises ConfigError or ReportError."""
    path = run.folder.config
    if path.is_file() and config_hash(read_config(path)) != config_hash(run.config):
        raise ConfigError(f"{run.folder.path} was started with other settings: use them again, or another --out")


def make(runs: Sequence[Run], train_run: Callable[[Run], bool]) -> list[str]:
    """Make every run that is not finished; the names of those that failed. Without its warm-up a seed has no runs."""
    failed: list[Run] = []
    for number, run in enumerate(runs, start=1):
        if any(other.arm == WARMUP and other.seed == run.seed for other in failed):
            continue
        if not run.folder.summary.is_file():
            print(f"== {run.config.name}, {number} of {len(runs)}", flush=True)
            if not train_run(run):
                failed.append(run)
                continue
        shutil.rmtree(run.folder.checkpoints, ignore_errors=True)
    return [run.config.name for run in failed]


def train(run: Run) -> bool:
    """Run the training to its end in a process of its own; False if it failed. An interrupt ends it as well."""
    command = [sys.executable, "-m", "rapo_ray.train", "--config", RECIPE, *run.overrides]
    with subprocess.Popen(command, start_new_session=True) as process:  # so that Ctrl-C reaches it once, through us
        try:
            return process.wait() == 0
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise


def results(runs: Sequence[Run]) -> list[Result]:
    """Held-out completions of finished runs, by arm; raises ReportError."""
    by_arm: dict[str, Result] = {}
    for run in runs:
        result = by_arm.setdefault(run.arm, Result(run.arm, {}, {}))
        sft = held_to_one_rule(read_groups(run.folder.heldout_file(Stage.SFT)))
        if run.arm == WARMUP:  # no round has changed it: its own row, and no difference
            result.after[run.seed] = sft
        else:
            result.before[run.seed] = sft
            result.after[run.seed] = held_to_one_rule(read_groups(run.folder.heldout_file(Stage.RAPO)))
    return [by_arm[arm] for arm in ARMS if arm in by_arm]


if __name__ == "__main__":
    sys.exit(main())
