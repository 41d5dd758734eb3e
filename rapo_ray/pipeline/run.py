"""A whole run: data and models, engines, warm-up, rounds, measurements, the aligned model on disk."""

import logging
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.config.load import config_hash
from rapo_ray.data.contamination import report_rows
from rapo_ray.data.sampler import PromptSampler
from rapo_ray.errors import ActorDied, CheckpointError, NonFiniteStep
from rapo_ray.evaluation.heldout import summarise_stage, total_difference
from rapo_ray.judging import canaries
from rapo_ray.models.published import write_manifest
from rapo_ray.models.resolve import judge_models, resolve_model
from rapo_ray.monitoring.watchers import Watchers, watch
from rapo_ray.orchestrator.prefetch import Ahead
from rapo_ray.orchestrator.round import Roles, check_failures, collect_groups, draw_groups, run_round
from rapo_ray.pipeline.evaluations import RunEvaluations, is_due
from rapo_ray.pipeline.inputs import Inputs, load_inputs
from rapo_ray.report import page, terminal
from rapo_ray.roles import Judged
from rapo_ray.storage import records
from rapo_ray.storage.checkpoint import CheckpointStore
from rapo_ray.storage.run_folder import REPORT, RunFolder
from rapo_ray.types import Group, Prompt


def run(config: RunConfig) -> None:
    """Do the run, or go on with it where it stopped; raises RapoError with one clear line."""
    from actors.cluster import ray_cluster

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _quiet_libraries()
    inputs = load_inputs(config)  # first: a run that cannot read its data leaves no folder behind
    folder = RunFolder(config)
    with ExitStack() as stack:
        folder.open()
        stack.callback(folder.close)
        if (summary := folder.finished()) is not None:
            console.say(f"{folder.path} is finished already; change `name` for a new run")
            console.show(terminal.summary_table(summary))
            if not (folder.path / REPORT).exists():
                page.publish_report(folder.path)
            return
        folder.record_contamination(report_rows(inputs.contaminated))
        session = Session(config, folder, inputs, stack.enter_context(watch(config)))
        session.base = Path(resolve_model(config.model.path, config.model.revision))
        judges = judge_models(config)
        resources = stack.enter_context(ray_cluster(config.cluster))
        stack.enter_context(session.watchers.exporting())
        _attempts(session, judges, resources)
        if config.serve.follow:
            _follow(config, folder.path)


def _attempts(session: "Session", judges: dict[str, Path], resources: dict[str, float]) -> None:
    """Do the run; where an actor is lost that cannot be replaced in a round, all start over from the checkpoint."""
    from actors.placement import check_fits, describe, plan
    from actors.spawn import Spawner

    config = session.config
    console.say(describe(plan(config)))
    check_fits(plan(config), resources)
    for left in range(config.limits.restarts, -1, -1):
        session.spawner = Spawner(config, plan(config))
        try:
            return session.go(judges)
        except (ActorDied, NonFiniteStep) as error:
            if not left:
                raise
            session.watchers.exported.restarted("run")
            console.say(f"{error}; starting over from the last checkpoint, {left} of {config.limits.restarts} left")
        finally:
            session.spawner.close()


def checkpoint_follows(config: RunConfig, number: int) -> bool:
    """True where round `number` ends with a checkpoint."""
    return number % config.checkpoint.every == 0 or number == config.rounds


def may_draw_ahead(config: RunConfig, number: int) -> bool:
    """True where round `number` may be drawn before the policy has learned from the one before it."""
    return config.rollout.staleness > 0 and not checkpoint_follows(config, number - 1)


def _follow(config: RunConfig, run: Path) -> None:
    from rapo_ray.serving.deploy import follow
    from rapo_ray.serving.state import State

    state = State(config.serve.state or config.out / ".serving")
    follow(run.resolve(), state, config.limits.start, console.say)


def _quiet_libraries() -> None:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("httpx", "httpcore", "matplotlib", "ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(slots=True)
class Session:
    """One process's part of a run."""

    config: RunConfig
    folder: RunFolder
    inputs: Inputs
    watchers: Watchers
    base: Path = Path()
    spawner: Any = None
    roles: Any = None
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def go(self, judge_models: dict[str, Path]) -> None:
        """All stages in order; what an earlier process finished is not done again."""
        config = self.config
        with self._timed("start_engines"):
            console.say(f"starting {config.rollout.engines} rollout engine(s) and the judges")
            rollouts, judge = self.spawner.start_inference(self.base, judge_models)
            rollouts.engines.restarted = self.watchers.exported.restarted
            rollouts.check(self.inputs.train_P + self.inputs.heldout_P)
        self.roles = Roles(rollouts, judge, None, None, None)  # type: ignore[arg-type]  # the trained side comes later
        checkpoints = CheckpointStore(self.folder.checkpoints, config.checkpoint.keep)
        latest = checkpoints.latest()
        if latest is None:
            self._measure("base")
        start = self._warm_up(rollouts)
        with self._timed("start_policy"):
            console.say(f"starting {config.policy.ranks} policy rank(s)")
            policy, reference, weights = self.spawner.start_training(start.resolve(), rollouts)
            self.roles = Roles(rollouts, judge, reference, policy, weights)
            sampler = PromptSampler(self.inputs.train_P, config.prompts_per_round, config.seed)
            done = 0
            if latest is not None:
                console.say(f"resuming after round {latest.round_number} of {config.rounds}")
                policy.load(latest.policy)
                sampler.restore(latest.state["sampler"])  # type: ignore[arg-type]
                done = latest.round_number
            self.folder.forget_after(done)
            weights.sync(done)
        if done == 0:
            self._measure("sft")
        self._evaluate(done)
        with self._timed("rounds"):
            self._rounds(sampler, checkpoints, done)
        self._measure("rapo")
        self._publish_model()
        self._summarise()

    def _rounds(self, sampler: PromptSampler, checkpoints: CheckpointStore, done: int) -> None:
        config = self.config
        batches: dict[int, list[Prompt]] = {}

        def draw(number: int, judged: Judged) -> tuple[Group, ...]:
            if number not in batches:  # a round may be drawn twice, of the same prompts
                batches[number] = sampler.next_batch()
            return draw_groups(self.roles, config, batches[number], number, judged)

        ahead = Ahead(draw, lambda number: may_draw_ahead(config, number))
        if done < config.rounds:
            console.say(terminal.HEADER)
        for number in range(done + 1, config.rounds + 1):
            self._canaries(number)
            with console.progress(f"round {number}/{config.rounds}") as progress:
                result = run_round(self.roles, config, ahead, number, progress)
            batches.pop(number)
            line = records.metric_line(result)
            self.folder.record(result, line)
            self.watchers.round(line)
            console.say(terminal.round_line(line, config.rounds))
            if checkpoint_follows(config, number):
                state = {
                    "round": number,
                    "sampler": sampler.state(),
                    "config": config_hash(config),
                }
                checkpoints.write(number, state, self.roles.policy.save)
            self._evaluate(number)

    def _evaluate(self, number: int) -> None:
        """Evaluate after a round where the config asks for it; a run that was stopped before that does it now."""
        if not (is_due(self.config, number) or (number == 0 and self.config.evaluation.every)):
            return
        evaluations = RunEvaluations(self.config, self.folder.path)
        with self._timed("evaluate"):
            results = evaluations.evaluate(number, self.roles)
        if results is None:
            return
        terminal.show_results(results)
        if number and evaluations.keep_best(number, results, self.roles.policy, self._complete):
            console.say(f"best so far: round {number}, in {self.folder.path / 'best'}")

    def _canaries(self, number: int) -> None:
        """Every so many rounds, completions of known verdict go through the live judge; past a limit the run stops."""
        every = self.config.judge.canaries.every
        if not every or (number - 1) % every:
            return
        canary_set = canaries.load_canaries()
        prompts_P = [canary.prompt for canary in canary_set]
        scored = self.roles.judge.score(prompts_P, [canaries.as_rollouts(canary_set)])
        verdicts = {rollout.group: verdict for rollout, _, verdict in scored}
        found = canaries.report(canary_set, [verdicts[index] for index in range(len(canary_set))])
        self.folder.record_canaries({"round": number, **asdict(found)})
        self.watchers.canaries(number, asdict(found), len(canary_set))
        canaries.check(found, self.config.judge.canaries, number)

    def _warm_up(self, rollouts: Any) -> Path:
        """The folder of the model that the rounds start from."""
        if self.config.warmup.source == "none":
            return self.base
        if not (self.folder.sft / "config.json").exists():
            with self._timed("warmup"):
                from rapo_ray.pipeline.warm_up import warm_up

                warm_up(self.config, self.inputs, self.base, self.folder, rollouts)
        return self.folder.sft

    def _measure(self, stage: str) -> None:
        path = self.folder.heldout / f"{stage}.parquet"
        if path.exists():
            return
        with self._timed(f"measure_{stage}"), console.progress(f"measuring {stage}") as progress:
            samples = range(1 if stage == "base" else self.config.data.heldout_samples)
            groups_P = collect_groups(self.roles, self.inputs.heldout_P, samples, 0, progress.judged)
            check_failures(groups_P, self.config.judge.failure_budget)
        records.write_parquet(groups_P, path)
        figures = summarise_stage(groups_P)
        shown = ", ".join(
            f"{name} {figures[name]:.2f}" for name in ("total", "risk", "general") if figures[name] is not None
        )
        console.say(f"held-out {stage}: {shown} (n {figures['n']})")

    def _publish_model(self) -> None:
        temporary = self.folder.clear_partial(self.folder.model)
        try:
            self.roles.policy.export(temporary, "bfloat16")
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
            if path.name.startswith(("tokenizer", "special_tokens", "chat_template", "vocab", "merges")):
                shutil.copy2(path, folder)
        config = self.config
        write_manifest(folder, config.name, version, config_hash(config), config.model.system_prompt)

    def _summarise(self) -> None:
        groups: dict[str, list[Group]] = {
            stage: records.read_groups(self.folder.heldout / f"{stage}.parquet") for stage in ("base", "sft", "rapo")
        }
        self.seconds["all"] = time.monotonic() - self.started
        delta = total_difference(groups["rapo"], groups["sft"], self.config.seed)
        summary = {
            "stages": {stage: summarise_stage(rows) for stage, rows in groups.items()},
            "delta": {"total": delta},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
        }
        self.folder.publish_summary(summary)
        console.show(terminal.summary_table(summary))
        console.say(f"{terminal.difference_line(delta)}\nmodel: {self.folder.model}   summary: {self.folder.summary}")
        page.publish_report(self.folder.path)

    def _timed(self, name: str) -> Any:
        from rapo_ray.orchestrator.phases import Phases

        phases = Phases()
        phases.seconds = self.seconds
        return phases(name)
