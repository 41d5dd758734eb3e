"""One process's part of a run: warm-up, rounds, measurements, the aligned model on disk."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.config.load import config_hash
from rapo_ray.errors import CheckpointError
from rapo_ray.evaluation.heldout import summarise_stage
from rapo_ray.evaluation.results import traces_of
from rapo_ray.evaluation.swap_plan import decided_groups
from rapo_ray.evaluation.swaps import SwapRow, follows
from rapo_ray.judging import canaries
from rapo_ray.models.chat import ChatFormat
from rapo_ray.models.published import write_manifest
from rapo_ray.monitoring.alarms import Alarms, line
from rapo_ray.monitoring.watchers import Watchers
from rapo_ray.orchestrator.collect import RoundCollector, collect_groups
from rapo_ray.orchestrator.phases import Phases
from rapo_ray.orchestrator.prefetch import RolloutPrefetcher
from rapo_ray.orchestrator.prompts import TrainingPrompts
from rapo_ray.orchestrator.round import check_failures, run_round
from rapo_ray.pipeline.attacks import training_prompts
from rapo_ray.pipeline.evaluations import RunEvaluations, is_due
from rapo_ray.pipeline.inputs import Inputs
from rapo_ray.pipeline.lengths import fitting
from rapo_ray.pipeline.swaps import swap_traces
from rapo_ray.report import page, terminal
from rapo_ray.reward.multiplier import next_multiplier
from rapo_ray.roles import Inference, Judge, Learner, Policy
from rapo_ray.storage.checkpoint import Checkpoint, CheckpointStore, RunState
from rapo_ray.storage.layout import Stage
from rapo_ray.storage.metrics import RoundMetrics, measure_round
from rapo_ray.storage.reader import read_alarms, read_groups, read_metrics, read_swaps
from rapo_ray.storage.records import LeftOutRow, RunSummary, compare
from rapo_ray.storage.rows import write_groups
from rapo_ray.storage.run_folder import RunFolder
from rapo_ray.types import Group, RoundResult

if TYPE_CHECKING:
    from actors.judge_group import JudgeGroup
    from actors.rollout_group import RolloutGroup
    from actors.spawn import Spawner


TOKENIZER_FILES = ("tokenizer", "special_tokens", "chat_template", "added_tokens", "vocab", "merges")  # names begin so


def checkpoint_follows(config: RunConfig, number: int) -> bool:
    """True where round `number` ends with a checkpoint."""
    return number % config.checkpoint.every == 0 or number == config.rounds


def may_prefetch(config: RunConfig, number: int) -> bool:
    """True where round `number` may be collected before the policy has learned from the one before it."""
    return config.rollout.staleness > 0 and not checkpoint_follows(config, number - 1)


@dataclass(slots=True)
class Session:
    """One process's part of a run."""

    config: RunConfig
    folder: RunFolder
    inputs: Inputs
    watchers: Watchers
    base: Path  # the model's folder
    chat: ChatFormat  # the model's
    phases: Phases = field(default_factory=Phases)
    started: float = field(default_factory=time.monotonic)
    earlier: dict[str, float] = field(init=False)  # seconds of the processes before this one
    multiplier: float = 0.0  # of the bound on over-refusal

    def __post_init__(self) -> None:
        self.earlier = self.folder.earlier_seconds()

    def go(self, spawner: "Spawner", judge_models: dict[str, Path]) -> None:
        """Run all stages in order; stages that an earlier process finished are skipped."""
        try:
            self._stages(spawner, judge_models)
        finally:
            self.folder.record_seconds(self._seconds())

    def _stages(self, spawner: "Spawner", judge_models: dict[str, Path]) -> None:
        config = self.config
        rollouts, judge = self._start_inference(spawner, judge_models)
        self._leave_out(rollouts)
        checkpoints = CheckpointStore(self.folder.checkpoints, config.checkpoint.keep)
        latest = checkpoints.latest()
        if latest is None:
            self._measure(Stage.BASE, rollouts, judge)
        if config.warmup.source != "none" and not (self.folder.sft / "config.json").exists():
            self._warm_up(rollouts, spawner)
            if config.rollout.colocate:
                rollouts, judge = self._start_inference(spawner, judge_models)
        start = self.base if config.warmup.source == "none" else self.folder.sft
        inference = Inference(rollouts, judge)
        with self.phases("start_policy"):
            console.say(f"starting {config.policy.ranks} policy rank(s)")
            policy, reference, weights = spawner.start_training(start.resolve(), rollouts, judge)
            learner = Learner(reference, policy, weights)
            prompts = training_prompts(config, self.inputs, rollouts.prompt_lengths)
            done = self._restore(latest, policy, prompts)
            self.folder.forget_after(done)
            weights.sync(done)
        if done == 0:
            self._measure(Stage.SFT, rollouts, judge)
        evaluate = partial(self._evaluate, rollouts, judge, policy)
        evaluate(done)
        with self.phases("rounds"), checkpoints.finishing():
            self._rounds(inference, learner, prompts, checkpoints, done, evaluate)
        self._measure(Stage.RAPO, rollouts, judge)
        self._publish_model(policy)
        self._summarise()

    def _leave_out(self, rollouts: "RolloutGroup") -> None:
        """Go on without prompts that are too long, where the config allows it; list those and the bad rows of files."""
        config, inputs = self.config, self.inputs
        prompts = inputs.train_P + inputs.heldout_P
        lengths = dict(zip((one.id for one in prompts), rollouts.prompt_lengths(prompts), strict=True))
        limit, refuse = config.rollout.max_prompt_tokens, config.data.long_prompts == "refuse"
        self.inputs, long = fitting(inputs, lengths, limit, refuse)
        rows = [LeftOutRow(place=f"{bad.source} row {bad.row}", reason=bad.reason) for bad in inputs.bad_rows]
        self.folder.record_left_out([*rows, *long])
        if long:
            console.say(f"{len(long)} prompts are too long and left out, first {long[0].place}: {self.folder.left_out}")

    def _seconds(self) -> dict[str, float]:
        """Seconds by part, of this process and those before it."""
        now = {**self.phases.seconds, "all": time.monotonic() - self.started}
        names = dict.fromkeys([*self.earlier, *now])
        return {name: round(self.earlier.get(name, 0.0) + now.get(name, 0.0), 1) for name in names}

    def _start_inference(self, spawner: "Spawner", judge_models: dict[str, Path]) -> "tuple[RolloutGroup, JudgeGroup]":
        with self.phases("start_engines"):
            console.say(f"starting {self.config.rollout.engines} rollout engine(s) and the judges")
            rollouts, judge = spawner.start_inference(self.base, judge_models)
            rollouts.engines.restarted = self.watchers.exported.restarted
        return rollouts, judge

    def _restore(self, latest: Checkpoint | None, policy: Policy, prompts: TrainingPrompts) -> int:
        """Go back to a checkpoint, or to the beginning; returns the number of finished rounds."""
        self.multiplier = 0.0 if latest is None else latest.state.multiplier
        if latest is None:
            return 0
        console.say(f"resuming after round {latest.state.round} of {self.config.rounds}")
        policy.load(latest.policy)
        prompts.restore(latest.state.sampler, latest.state.attacker)
        return latest.state.round

    def _rounds(
        self,
        inference: Inference,
        learner: Learner,
        prompts: TrainingPrompts,
        checkpoints: CheckpointStore,
        done: int,
        evaluate: Callable[[int], None],
    ) -> None:
        config = self.config
        alarms = Alarms(config.alarms, read_metrics(self.folder.metrics), read_alarms(self.folder.alarms))
        alarms.check()
        source = RolloutPrefetcher(prompts, RoundCollector(inference, config), partial(may_prefetch, config))
        if done < config.rounds:
            console.say(terminal.HEADER)
        for number in range(done + 1, config.rounds + 1):
            self._canaries(number, inference.judge)
            with console.progress(f"round {number}/{config.rounds}") as progress:
                result = run_round(source, learner, config, number, progress, self.multiplier)
            metrics = self._learn(prompts, result)
            self.folder.record(result, metrics)
            self.folder.record_seconds(self._seconds())
            self.watchers.round(metrics)
            console.say(terminal.round_line(metrics, config.rounds))
            if (attacked := terminal.attack_line(metrics)) is not None:
                console.say(attacked)
            self._alarms(alarms, metrics)
            if checkpoint_follows(config, number):
                state = RunState(config_hash(config), number, *prompts.states(), self.multiplier)
                checkpoints.begin(state, learner.policy.save)
            alarms.check()
            evaluate(number)

    def _learn(self, prompts: TrainingPrompts, result: RoundResult) -> RoundMetrics:
        """Let attacker and multiplier learn from a round; returns the round's metrics."""
        bound = self.config.credit.over_refusal_bound
        dropped = prompts.learn(result.round_number, result.groups_P)
        metrics = measure_round(result, dropped, None if bound is None else self.multiplier)
        self.multiplier = next_multiplier(self.multiplier, metrics.shares.over_refusal, bound)
        return metrics

    def _alarms(self, alarms: Alarms, metrics: RoundMetrics) -> None:
        """Say and store which alarms begin and end with a round."""
        for change in alarms.observe(metrics):
            self.folder.record_alarm(change)
            console.say(line(change))
        self.watchers.alarms(metrics.round, alarms.watched())

    def _evaluate(self, rollouts: "RolloutGroup", judge: Judge, policy: Policy, number: int) -> None:
        """Evaluate after a round where the config asks for it; a run that was stopped before that does it now."""
        if not (is_due(self.config, number) or (number == 0 and self.config.evaluation.every)):
            return
        evaluations = RunEvaluations(self.config, self.folder.path, self.chat)
        with self.phases("evaluate"):
            results = evaluations.evaluate(number, rollouts, judge)
        if results is None:
            return
        terminal.show_results(results)
        self.watchers.traces("suites", *traces_of(results))
        if number and evaluations.keep_best(number, results, policy, self._complete):
            console.say(f"best so far: round {number}, in {self.folder.best}")

    def _canaries(self, number: int, judge: Judge) -> None:
        """Every so many rounds, completions of known verdict go through the live judge; past a limit the run stops."""
        every = self.config.judge.canaries.every
        if not every or (number - 1) % every:
            return
        canary_set = canaries.load_canaries()
        prompts_P = [canary.prompt for canary in canary_set]
        scored = judge.score(prompts_P, [canaries.responses_of(canary_set, self.chat)])
        verdicts = {response.group: verdict for response, _, verdict in scored}
        rates = canaries.report(canary_set, [verdicts[index] for index in range(len(canary_set))])
        self.folder.record_canaries(number, rates)
        self.watchers.canaries(number, rates, len(canary_set))
        canaries.check(rates, self.config.judge.canaries, number)

    def _warm_up(self, rollouts: "RolloutGroup", spawner: "Spawner") -> None:
        """The supervised warm-up; in the time-shared layout engines and judges are stopped first."""
        from rapo_ray.pipeline.warm_up import warm_up

        free_cards = spawner.close if self.config.rollout.colocate else lambda: None
        with self.phases("warmup"):
            warm_up(self.config, self.inputs, self.base, self.chat, self.folder, rollouts, free_cards)

    def _measure(self, stage: Stage, rollouts: "RolloutGroup", judge: Judge) -> None:
        """Sample and judge the held-out prompts, then swap their traces; what is on disk is not made again."""
        path = self.folder.heldout_file(stage)
        if not path.exists():
            with self.phases(f"measure_{stage}"), console.progress(f"measuring {stage}") as progress:
                samples = range(1 if stage is Stage.BASE else self.config.data.heldout_samples)
                inference = Inference(rollouts, judge)
                groups_P = collect_groups(inference, self.inputs.heldout_P, samples, 0, progress.judged)
                check_failures(groups_P, self.config.judge.failure_budget)
            write_groups(groups_P, path)
        swaps = [] if stage is Stage.BASE else self._swap(stage, rollouts, judge)
        figures = summarise_stage(read_groups(path), swaps, self.config.seed)
        console.say(terminal.stage_line(stage, figures))
        if stage is not Stage.BASE:
            monitor = figures.monitor
            self.watchers.traces("heldout", follows(figures.swaps), monitor.accuracy if monitor else None)

    def _swap(self, stage: Stage, rollouts: "RolloutGroup", judge: Judge) -> list[SwapRow]:
        """Answers to swapped traces, in one batch."""
        config = self.config
        decided = decided_groups(read_groups(self.folder.heldout_file(stage)), self.chat)
        writer = rollouts.sampling(config.rollout.temperature, config.rollout.max_new_tokens)
        with self.phases(f"swap_{stage}"):
            return swap_traces(config, decided, writer, judge, self.folder.swaps_file(stage))

    def _publish_model(self, policy: Policy) -> None:
        temporary = self.folder.clear_partial(self.folder.model)
        try:
            policy.export(temporary, "bfloat16")
            self._complete(temporary, self.config.rounds)
            if self.folder.model.exists():
                shutil.rmtree(self.folder.model)
            temporary.rename(self.folder.model)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {self.folder.model}: {error}; make room and run the same command"
            ) from error

    def _complete(self, folder: Path, version: int) -> None:
        """Make exported weights a published model: tokenizer, then the manifest."""
        for path in self.base.iterdir():
            if path.name.startswith(TOKENIZER_FILES):
                shutil.copy2(path, folder)
        config, chat = self.config, replace(self.chat, shown=True)  # whatever its template shows, it thinks so
        write_manifest(folder, config.name, version, config_hash(config), config.model.system_prompt, chat)

    def _summarise(self) -> None:
        seed = self.config.seed
        groups: dict[Stage, list[Group]] = {stage: read_groups(self.folder.heldout_file(stage)) for stage in Stage}
        swaps = {stage: read_swaps(self.folder.swaps_file(stage)) for stage in Stage}
        delta = compare(groups[Stage.RAPO], groups[Stage.SFT], seed, swaps[Stage.RAPO], swaps[Stage.SFT])
        summary = RunSummary(
            {stage: summarise_stage(groups_P, swaps[stage], seed) for stage, groups_P in groups.items()},
            delta,
            self._seconds(),
        )
        self.folder.publish_summary(summary)
        terminal.show_summary(summary)
        console.say(f"model: {self.folder.model}   summary: {self.folder.summary}")
        page.publish_report(self.folder.path)
