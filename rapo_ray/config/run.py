"""Settings of a run: one section per role, each field documented where it is defined.

Precedence: defaults < recipe file < dotted overrides on the command line. Unknown keys are errors.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rapo_ray.attacks.chain import parse_chain
from rapo_ray.config.alarms import AlarmsConfig
from rapo_ray.config.base import Dtype, Strict, device_dtype
from rapo_ray.config.data import DataConfig
from rapo_ray.config.evaluation import EvaluationConfig, GatesConfig
from rapo_ray.config.judge import JudgeBackendConfig, JudgeConfig
from rapo_ray.config.learning import CreditConfig, PolicyConfig, ReferenceConfig
from rapo_ray.config.serving import FollowConfig
from rapo_ray.config.sinks import SinksConfig
from rapo_ray.config.thinking import ThinkingConfig

MAX_SHARED_MEMORY = 0.95  # of a card that engines and judges share; each process needs some of the rest


class ModelConfig(Strict):
    """The model to align."""

    path: str = "embedded:smollm2-135m"
    """Model to start from: a hub id, a local folder, or `embedded:smollm2-135m`."""
    revision: str | None = None
    """Commit of the hub model; unset, it is the hub's newest. Pin it to make the run reproducible."""
    system_prompt: str | None = None
    """System message of every prompt; unset, the model's chat template decides."""
    thinking: ThinkingConfig = ThinkingConfig()
    """The chat format, where the template does not show it; `rapo train --dry-run` prints what was read."""


class WarmupConfig(Strict):
    """Stage 1: the supervised warm-up (SFT) that teaches the format."""

    source: Literal["demonstrations", "synthesis", "none"] = "demonstrations"
    """`demonstrations` uses packaged ones or `path`, `synthesis` lets the model write them, `none` skips warming up."""
    path: Path | None = None
    """JSONL file of demonstrations (`text`, `harmful`, `level`, `completion`); unset, the packaged ones are used."""
    recipe: str | None = None
    """Prompts for `synthesis`, as `name:n,name:n`; required there."""
    epochs: int = Field(default=1, ge=1)
    """Number of passes over the demonstrations."""
    batch_size: int = Field(default=8, ge=1)
    """Demonstrations per optimizer step."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate, reached after a tenth of the steps; it then decays linearly."""
    max_new_tokens: int = Field(default=2048, ge=16)
    """Token limit of a synthesised trace or completion; one that reaches it is dropped."""
    min_trace_chars: int = Field(default=64, ge=0)
    """Smallest length of a synthesised trace in characters; a shorter one is dropped."""

    @model_validator(mode="after")
    def _synthesis_needs_prompts(self) -> Self:
        if self.source == "synthesis" and not self.recipe:
            raise ValueError("warmup.source=synthesis needs warmup.recipe, for example `stratasword:400`")
        return self


class RolloutConfig(Strict):
    """The vLLM engines that sample completions."""

    engines: int = Field(default=1, ge=1)
    """Number of engines; prompts are distributed over them in order."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs per engine."""
    dtype: Dtype = "auto"
    """Data type of the engines; `auto`: bfloat16 on GPUs and on CPUs that compute in it natively, else float32."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature; engines and policy both compute log-probs at this temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass; below 1 the importance ratio would be biased, so corrections must be off."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Token limit of a completion; one that reaches it is truncated and gets the verdict `malformed`."""
    max_prompt_tokens: int = Field(default=1024, ge=1)
    """Token limit of a prompt; a longer one stops the run before the first round."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Sequences that an engine runs at once, at most; fewer where its KV cache holds fewer of half the token limits."""
    staleness: Literal[0, 1] = 0
    """Weight versions by which rollouts may lag: with 1 the next round is sampled while the policy trains on this one.

    The round after a checkpoint always samples with the newest weights, so that a resumed run repeats exactly;
    `checkpoint.every` must therefore be more than 1.
    """
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """Share of a GPU's memory that an engine may use."""
    colocate: bool = False
    """Share all cards between engines, vllm judges and the policy, which take turns on them (the time-shared layout).

    While completions are generated and judged, the policy's states lie in host memory; while it trains, engines and
    judges sleep. Its ranks compute the reference's log-probs too: there are no reference actors. Each card of an engine
    holds one rank (`policy.ranks` is `engines` times `tensor_parallel`), which hands it new weights on the card.
    """
    kv_cache_gib: int = Field(default=1, ge=1)
    """Size of an engine's key-value cache on CPU, in GiB."""
    enforce_eager: bool | None = None
    """Skip graph capture and compilation, for vllm judges too; unset, they are skipped on CPU and done on GPU."""


class CheckpointConfig(Strict):
    """The schedule and number of checkpoints."""

    every: int = Field(default=1, ge=1)
    """Rounds between two checkpoints; the last round always writes one."""
    keep: int = Field(default=2, ge=1)
    """Number of newest checkpoints kept on disk."""


class ClusterConfig(Strict):
    """The Ray cluster, and the resources that actors reserve on it."""

    address: str | None = None
    """Address of the cluster to join; unset, it is RAY_ADDRESS, or else a local cluster is started."""
    device: Literal["cpu", "gpu"] = "gpu"
    """Device that the models run on."""
    cpus_per_actor: float = Field(default=1.0, gt=0)
    """Logical CPUs that each actor reserves; on a CPU machine the roles take turns on the same cores, so use few."""
    gpu_memory_gib: float | None = Field(default=None, gt=0)
    """Memory of a GPU that the memory plan reckons with, in GiB; unset, what this node reports, or 80 without one."""
    placement: Literal["PACK", "SPREAD"] = "PACK"
    """Ray's placement strategy: `PACK` puts actors on few nodes, `SPREAD` on many."""


class LimitsConfig(Strict):
    """Time limits of every wait, in seconds, and the number of restarts."""

    start: float = Field(default=600, gt=0)
    """Seconds from the request for resources until every actor is ready."""
    generate: float = Field(default=1800, gt=0)
    """Seconds without a finished completion from a busy engine; it is then killed and restarted."""
    silence: float = Field(default=120, gt=10)
    """Seconds without any sign of life from an engine; it is then killed and restarted."""
    restarts: int = Field(default=2, ge=0)
    """Largest number of restarts of each engine, judge and reference, and of the run from its last checkpoint."""
    judge: float = Field(default=600, gt=0)
    """Seconds without a verdict after a completion was sent to a judge."""
    update: float = Field(default=3600, gt=0)
    """Seconds for one policy update, one reference pass or one checkpoint."""
    sync: float = Field(default=600, gt=0)
    """Seconds for one transfer of the weights from the policy to every engine."""
    warmup: float = Field(default=7 * 24 * 3600, gt=0)
    """Seconds for the whole supervised warm-up."""


class RunConfig(Strict):
    """All settings of a run."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of the run and of its folder below `out`."""
    out: Path = Path("runs")
    """Folder that contains all runs."""
    seed: int = Field(default=0, ge=0)
    """Seed of data order, sampling and initialisation."""
    rounds: int = Field(default=100, ge=0)
    """Number of online rounds after the warm-up."""
    prompts_per_round: int = Field(default=64, ge=1)
    """Number of prompts per round (P)."""
    samples_per_prompt: int = Field(default=4, ge=2)
    """Number of completions per prompt (G)."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    warmup: WarmupConfig = WarmupConfig()
    rollout: RolloutConfig = RolloutConfig()
    judge: JudgeConfig = JudgeConfig()
    credit: CreditConfig = CreditConfig()
    policy: PolicyConfig = PolicyConfig()
    reference: ReferenceConfig = ReferenceConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gates: GatesConfig = GatesConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    serve: FollowConfig = FollowConfig()
    sinks: SinksConfig = SinksConfig()
    cluster: ClusterConfig = ClusterConfig()
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="before")
    @classmethod
    def _data_types_fit_the_device(cls, tree: object) -> object:
        if not isinstance(tree, dict):
            return tree
        cluster, judge = tree.get("cluster", {}), tree.get("judge", {})
        device = cluster.get("device", "gpu") if isinstance(cluster, dict) else getattr(cluster, "device", "gpu")
        if isinstance(judge, dict):
            judges = {"risk": {}, **judge}
            parts = {part: judges[part] for part in ("risk", "general", "second") if part in judges}
            judge = {**judges, **{part: device_dtype(section, device) for part, section in parts.items()}}
        sections = {part: device_dtype(tree.get(part, {}), device) for part in ("rollout", "policy")}
        return {**tree, **sections, "judge": judge}

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        self._importance_ratio_is_unbiased()
        self._stale_rollouts_are_corrected()
        self._overlong_is_reachable()
        self._every_step_has_a_prompt()
        self._attacks_come_in_pairs()
        self._bound_has_advantages()
        self._judges_time_out_first()
        self._engines_fit_beside_policy()
        self._judges_fit_beside_rollouts()
        self._promotion_has_gates()
        self._gate_reads_untrained_attacks()
        self._gated_traces_are_swapped()
        self._gated_tries_are_made()
        self._evaluated_rounds_have_checkpoints()
        self._tensor_parallel_has_gpus()
        return self

    def _importance_ratio_is_unbiased(self) -> None:
        policy, top_p = self.policy, self.rollout.top_p
        corrects = policy.importance_correction != "off"
        if top_p < 1 and corrects:
            raise ValueError(
                f"rollout.top_p={top_p} biases the importance ratio by the kept mass: "
                f"set rollout.top_p=1, or policy.importance_correction=off (it is {policy.importance_correction})"
            )
        if policy.old_logprobs == "rollout" and corrects:
            raise ValueError(
                "policy.old_logprobs=rollout already corrects for the gap: set policy.importance_correction=off "
                f"(it is {policy.importance_correction})"
            )
        if top_p < 1 and policy.old_logprobs == "rollout":
            raise ValueError(f"policy.old_logprobs=rollout needs rollout.top_p=1 (it is {top_p})")

    def _stale_rollouts_are_corrected(self) -> None:
        policy = self.policy
        corrected = policy.old_logprobs == "rollout" or policy.importance_correction != "off"
        if self.rollout.staleness and not corrected and not policy.learns_from_pairs:
            raise ValueError(
                "rollout.staleness=1 needs a ratio to the weights that made the rollouts: "
                "set policy.old_logprobs=rollout, or policy.importance_correction=token"
            )
        if self.rollout.staleness and self.checkpoint.every == 1:
            raise ValueError("rollout.staleness=1 prefetches no round with checkpoint.every=1: set it to 2 or more")

    def _overlong_is_reachable(self) -> None:
        overlong = self.credit.overlong
        if overlong is not None and overlong[0] >= self.rollout.max_new_tokens:
            raise ValueError(
                f"credit.overlong={list(overlong)} starts where no completion reaches: "
                f"rollout.max_new_tokens={self.rollout.max_new_tokens}"
            )

    def _every_step_has_a_prompt(self) -> None:
        if self.policy.steps_per_round > self.prompts_per_round:
            raise ValueError(
                f"policy.steps_per_round={self.policy.steps_per_round} is more than "
                f"prompts_per_round={self.prompts_per_round}"
            )

    def _attacks_come_in_pairs(self) -> None:
        attack = self.data.attack
        if attack is not None and not self.attacked_pairs:
            raise ValueError(
                f"data.attack.share={attack.share:g} of prompts_per_round={self.prompts_per_round} is no whole pair of "
                f"an attack and its benign twin: set it to at least {2 / self.prompts_per_round:g}"
                if self.prompts_per_round > 1
                else "data.attack needs prompts_per_round=2 or more: an attack and its benign twin"
            )

    def _bound_has_advantages(self) -> None:
        if self.credit.over_refusal_bound is not None and self.policy.learns_from_pairs:
            raise ValueError(
                f"credit.over_refusal_bound={self.credit.over_refusal_bound:g} weights advantages, and "
                f"policy.objective={self.policy.objective} has none: leave it out, or set policy.objective=clip"
            )

    def _judges_time_out_first(self) -> None:
        for part, judge in self.judge.named().items():
            if judge.backend != "rules" and judge.timeout >= self.limits.judge:
                raise ValueError(
                    f"judge.{part}.timeout={judge.timeout:g} must be below limits.judge={self.limits.judge:g}: "
                    "a slow reply is a failed verdict, a silent judge actor ends the run"
                )

    def _promotion_has_gates(self) -> None:
        if self.serve.follow and not self.gates.bars():
            raise ValueError("serve.follow=true needs gates, for example gates.asr=0.1: nothing else is promoted")

    def _gate_reads_untrained_attacks(self) -> None:
        if self.data.attack is None or self.gates.asr is None:
            return
        chains = [parse_chain(name) for name in self.evaluation.attacks]
        if not any(chain and set(chain).isdisjoint(self.data.trained_families) for chain in chains):
            raise ValueError(
                f"gates.asr={self.gates.asr:g} reads no attack of families that are never trained on: add one of "
                f"data.heldout_families to evaluation.attacks (it is {', '.join(self.evaluation.attacks)})"
            )

    def _gated_traces_are_swapped(self) -> None:
        if self.gates.trace_follows is not None and not self.evaluation.trace_swaps:
            raise ValueError(
                f"gates.trace_follows={self.gates.trace_follows:g} has nothing to measure with "
                "evaluation.trace_swaps=0: set it to a number of prompts, or leave out the gate"
            )

    def _gated_tries_are_made(self) -> None:
        gates, needed = self.gates, self.gates.most_tries
        if not needed:
            return
        answered = gates.benign_answered_attacked
        bar = f"gates.asr_at={gates.asr_at}" if gates.asr_at else f"gates.benign_answered_attacked={answered:g}"
        if not self.data.heldout_families:
            raise ValueError(
                f"{bar} is measured on families that are never trained on, and data.heldout_families=[] names none: "
                "name some, or leave out the gate"
            )
        if self.evaluation.tries < needed:
            raise ValueError(f"{bar} needs evaluation.tries={needed} or more (it is {self.evaluation.tries})")
        if answered is None:
            raise ValueError(
                f"{bar} alone is passed by a model that refuses everything: set gates.benign_answered_attacked too"
            )

    def _evaluated_rounds_have_checkpoints(self) -> None:
        if self.evaluation.every % self.checkpoint.every:  # so that a resumed run need not evaluate again
            raise ValueError(
                f"evaluation.every={self.evaluation.every} must be a multiple of "
                f"checkpoint.every={self.checkpoint.every}"
            )

    def _tensor_parallel_has_gpus(self) -> None:
        judges = {f"judge.{part}": judge.tensor_parallel for part, judge in self.judge.named().items()}
        for part, tensor_parallel in ({"rollout": self.rollout.tensor_parallel} | judges).items():
            if tensor_parallel > 1 and self.cluster.device == "cpu":
                raise ValueError(f"{part}.tensor_parallel={tensor_parallel} needs cluster.device=gpu")

    def _engines_fit_beside_policy(self) -> None:
        rollout, policy = self.rollout, self.policy
        if not rollout.colocate:
            return
        if rollout.staleness:
            raise ValueError("rollout.colocate needs rollout.staleness=0: engines sleep while the policy trains")
        cards = rollout.engines * rollout.tensor_parallel
        if policy.ranks != cards:
            raise ValueError(
                f"rollout.colocate needs a policy rank on each card of the engines: set policy.ranks={cards}, "
                f"rollout.engines times rollout.tensor_parallel (it is {policy.ranks})"
            )
        if policy.zero_stage < 2:
            raise ValueError(
                f"rollout.colocate needs policy.zero_stage=2 or 3 (it is {policy.zero_stage}): below that, DeepSpeed "
                "moves no states of a bfloat16 policy to host memory"
            )
        if policy.needs_reference and self.reference.actors != 1:
            raise ValueError(
                f"rollout.colocate starts no reference actors, the policy's ranks do their work: leave out "
                f"reference.actors (it is {self.reference.actors})"
            )

    def shares_cards(self, judge: JudgeBackendConfig) -> bool:
        """True where a judge lives on the cards of the rollout engine of its number."""
        return judge.share_rollout_gpu or (self.rollout.colocate and judge.backend == "vllm")

    def _judges_fit_beside_rollouts(self) -> None:
        rollout = self.rollout
        sharing = {part: judge for part, judge in self.judge.named().items() if self.shares_cards(judge)}
        for part, judge in sharing.items():
            if judge.backend != "vllm" or judge.tensor_parallel > rollout.tensor_parallel:
                raise ValueError(
                    f"judge.{part} shares the cards of a rollout engine: that needs backend=vllm (it is "
                    f"{judge.backend}) and a tensor_parallel of at most rollout.tensor_parallel="
                    f"{rollout.tensor_parallel} (it is {judge.tensor_parallel})"
                )
            if judge.actors > rollout.engines:
                raise ValueError(
                    f"judge.{part}.actors={judge.actors} share the cards of rollout.engines={rollout.engines}: "
                    "at most one beside each engine"
                )
        total = rollout.memory_share + sum(judge.memory_share for judge in sharing.values())
        if sharing and self.cluster.device == "gpu" and total > MAX_SHARED_MEMORY:
            raise ValueError(
                f"rollout.memory_share and the memory_share of judges that share its cards add up to {total:g}, "
                f"more than {MAX_SHARED_MEMORY:g}"
            )

    @property
    def attacked_pairs(self) -> int:
        """Attacks of a round, each with a benign twin."""
        attack = self.data.attack
        return 0 if attack is None else int(round(attack.share * self.prompts_per_round / 2, 4))  # 2/24 has no end

    @property
    def eager(self) -> bool:
        """True where engines skip graph capture and compilation."""
        return self.cluster.device == "cpu" if self.rollout.enforce_eager is None else self.rollout.enforce_eager

    @property
    def folder(self) -> Path:
        """Folder of this run, `name` below `out`."""
        return self.out / self.name
