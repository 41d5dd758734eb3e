"""A whole evaluation: prompts, models one after the other, figures, files."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapo_ray import console
from rapo_ray.atomic import write_text_atomically
from rapo_ray.config import RunConfig
from rapo_ray.engines.http_responder import HttpModel, HttpResponder
from rapo_ray.errors import ConfigError
from rapo_ray.evaluation.collect import RowFile, collect_rows, make_items
from rapo_ray.evaluation.results import Decoding, Evaluated, JudgeIdentity, Results, summarise
from rapo_ray.evaluation.rows import Item
from rapo_ray.evaluation.swap_plan import decided_rows
from rapo_ray.evaluation.trajectory import TrajectoryResponder
from rapo_ray.evaluation.tries import Effort, families_by_split, make_tries
from rapo_ray.judging.http import check_judges, read_token
from rapo_ray.judging.rules import RULES_JUDGE
from rapo_ray.models.resolve import judge_models
from rapo_ray.pipeline.identity import judge_identities
from rapo_ray.pipeline.inputs import check_temperature, load_prompts
from rapo_ray.pipeline.swaps import swap_traces
from rapo_ray.pipeline.target import Target
from rapo_ray.report import terminal
from rapo_ray.report.page import publish_report
from rapo_ray.roles import Judge, Responder, Writer
from rapo_ray.storage.json_records import to_json
from rapo_ray.storage.layout import EvaluationLayout
from rapo_ray.storage.reader import read_optional
from rapo_ray.storage.rows import write_results
from rapo_ray.types import Prompt

if TYPE_CHECKING:
    from actors.judge_group import JudgeGroup
    from actors.rollout_group import RolloutGroup


def evaluate_models(config: RunConfig, targets: Sequence[Target], folder: Path) -> Results:
    """Evaluate each target on `evaluation.suites`; raises RapoError. Rows on disk are not made again."""
    check_judges(config.judge)
    if any(target.url is None for target in targets):
        check_temperature(config)
    if config.gates.trace_follows is not None and targets[0].url is not None:
        raise ConfigError(
            f"gates.trace_follows={config.gates.trace_follows:g} needs the model itself: an endpoint takes no forced "
            "beginning of its answer; leave out the gate"
        )
    prompts = suite_prompts(config)
    endpoints = {
        target.name: endpoint_responder(config, target, prompts, folder) for target in targets if target.url is not None
    }
    folder.mkdir(parents=True, exist_ok=True)
    same_evaluation(folder, config, targets)
    evaluated = []
    for target in targets:
        console.say(f"evaluating {target.id}: {config.evaluation.suites}")
        with start_inference(config, target) as (rollouts, judge):
            responder = endpoints.get(target.name, rollouts)
            writer = None if target.url else rollouts
            evaluated.append(evaluate_live(config, target, prompts, responder, judge, folder, writer))
    results = summarise(evaluated, decoding(config), judge_of(config), config.gates, config.seed, effort_of(config))
    write_results(results, evaluated, folder)
    terminal.show_results(results)
    console.say(f"results: {EvaluationLayout(folder).results}")
    publish_report(folder)
    return results


def endpoint_responder(config: RunConfig, target: Target, prompts: Sequence[Prompt], folder: Path) -> HttpResponder:
    """The endpoint as a responder, probed where rows are missing; raises EngineError where it refuses its requests."""
    responder = HttpResponder(http_model(config, target))
    rows = RowFile(EvaluationLayout(folder).rows_of(target.name)).read()
    if len(rows) < len(items_of(config, prompts)):
        responder.probe()
    return responder


def items_of(config: RunConfig, prompts: Sequence[Prompt]) -> list[Item]:
    """The rows to make: prompts under `evaluation.attacks`, then the tries."""
    effort = effort_of(config)
    items = make_items(prompts, config.evaluation.attacks, config.seed)
    return items + make_tries(prompts, effort, config.seed) if effort else items


def effort_of(config: RunConfig) -> Effort | None:
    """Tries of `evaluation.tries`; None where there are none."""
    evaluation = config.evaluation
    if not evaluation.tries:
        return None
    return Effort(evaluation.tries, evaluation.longest_chain, families_by_split(config.data.heldout_families))


def suite_prompts(config: RunConfig) -> list[Prompt]:
    """Load the prompts of `evaluation.suites`."""
    return load_prompts(config, "suites", config.evaluation.suites)


def evaluate_live(
    config: RunConfig,
    target: Target,
    prompts: Sequence[Prompt],
    responder: Responder,
    judge: Judge,
    folder: Path,
    writer: Writer | None,
) -> Evaluated:
    """Evaluate one model on running engines and judges; prompts too long for it are counted and left out.

    Traces are swapped where a writer takes them; an endpoint has none.
    """
    items = items_of(config, prompts)
    responder = TrajectoryResponder(responder, target.chat, config.rollout.max_prompt_tokens)
    dropped: dict[str, int] = {}
    lengths = responder.prompt_lengths([item.prompt for item in items])
    if lengths is not None:
        limit = config.rollout.max_prompt_tokens
        short = [one for one, length in zip(items, lengths, strict=True) if length <= limit]
        if len(short) < len(items):
            dropped[f"more than {limit} prompt tokens"] = len(items) - len(short)
            console.say(
                f"{len(items) - len(short)} prompts are longer than rollout.max_prompt_tokens={limit}: left out"
            )
        items = short
    file = RowFile(EvaluationLayout(folder).rows_of(target.name))
    with console.progress(f"evaluating {target.name}") as progress:
        reads = (config.judge.general or config.judge.risk).backend != "rules"
        rows = collect_rows(
            target.id, items, responder, judge, file, chunk_size(config), progress.judged, reads, target.chat
        )
    swaps = []
    if writer is not None:
        decided = decided_rows(rows, prompts, target.chat)
        swaps = swap_traces(config, decided, writer, judge, EvaluationLayout(folder).swaps_of(target.name))
    return Evaluated(
        name=target.name, id=target.id, revision=target.revision, rows=rows, expected=len(items), dropped=dropped,
        swaps=swaps,
    )  # fmt: skip


def chunk_size(config: RunConfig) -> int:
    """Number of rows that all engines take at once."""
    return config.rollout.engines * config.rollout.max_num_seqs


def max_new_tokens(config: RunConfig) -> int:
    """Token limit of the evaluated completions."""
    return config.evaluation.max_new_tokens or config.rollout.max_new_tokens


def decoding(config: RunConfig) -> Decoding:
    """Settings that completions are sampled with, for the record."""
    return Decoding(
        temperature=config.evaluation.temperature,
        max_new_tokens=max_new_tokens(config),
        dtype=config.rollout.dtype,
        system_prompt=config.model.system_prompt,
        samples_per_prompt=1,
        attacks=list(config.evaluation.attacks),
        suites=config.evaluation.suites,
        seed=config.seed,
        answer="what follows the thinking; all of the completion where nothing closes that",
    )


def judge_of(config: RunConfig) -> JudgeIdentity:
    """Judge of the answers, for the record."""
    judge = config.judge.general or config.judge.risk
    name = RULES_JUDGE if judge.backend == "rules" else f"{judge.backend}:{judge.model}"
    return JudgeIdentity(name, judge.revision, judge.guard, judge.reply)


IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Identity:
    """Content of evaluation.json: settings that all rows of a folder share, and its models as `id@revision`."""

    models: dict[str, str]
    decoding: dict[str, Any]
    judges: dict[str, Any]  # settings of each, and what its verdicts depend on
    sources: dict[str, Any]
    chunk: int
    request: dict[str, Any] = field(default_factory=dict)  # settings of an endpoint's requests, where set
    chats: dict[str, dict[str, Any]] = field(default_factory=dict)  # chat format of each model
    consistency: bool = False  # a contradiction decides the case of a trace
    effort: dict[str, Any] = field(default_factory=dict)  # tries, and the families that they are drawn from


def same_evaluation(folder: Path, config: RunConfig, targets: Sequence[Target]) -> None:
    """Record the settings of the folder's rows; raises ConfigError where it has rows of other models or settings."""
    identities = judge_identities(config, judge_models(config))
    judges = {
        part: judge.model_dump(mode="json") | ({IDENTITY: identities[part]} if part in identities else {})
        for part, judge in config.judge.named().items()
    }
    sources = {name: source.model_dump(mode="json") for name, source in config.data.sources.items()}
    models = {target.name: f"{target.id}@{target.revision}" for target in targets}
    request = config.evaluation.request.model_dump(mode="json", exclude={"limit_field"}, exclude_defaults=True)
    chats = {target.name: to_json(target.chat) for target in targets}
    identity = Identity(
        models, to_json(decoding(config)), judges, sources, chunk_size(config), request, chats,
        config.judge.checks_consistency, to_json(effort) if (effort := effort_of(config)) else {},
    )  # fmt: skip
    path = EvaluationLayout(folder).identity
    if (before := read_optional(Identity, path)) is not None:
        # Rows are told by their own content, so that files and models may move.
        names = sorted(one.name for one in fields(Identity) if one.name not in ("models", "chats", "judges", "sources"))
        changed = [name for name in names if getattr(before, name) != getattr(identity, name)]
        if not all(_same_judge(part, before.judges, judges) for part in judges | before.judges):
            changed.append("judges")
        changed += [f"models.{name}" for name, one in models.items() if not _same_model(before.models.get(name), one)]
        changed += [f"chat format of {name}" for name, one in chats.items() if before.chats.get(name, one) != one]
        if changed and any(folder.glob("*.jsonl")):
            raise ConfigError(
                f"{folder} holds an evaluation with other settings (changed: {', '.join(changed)}): "
                "give another --output, or remove the folder"
            )
        if not changed:
            identity = replace(identity, models={**before.models, **models}, chats={**before.chats, **chats})
    write_text_atomically(path, json.dumps(to_json(identity), indent=2, sort_keys=True) + "\n")


def _same_judge(part: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """True where verdicts are the same; a folder of a version without identities is compared by all settings."""
    old, new = before.get(part), now.get(part)
    if old is None or new is None:
        return part == "second"  # gives no verdict of a row
    if IDENTITY in old and IDENTITY in new:
        return bool(old[IDENTITY] == new[IDENTITY])
    return {name: one for name, one in new.items() if name != IDENTITY} == old or part == "second"


def _same_model(before: str | None, now: str) -> bool:
    """True for the same content, wherever it lies; an endpoint, which has no revision, is its name and address."""
    if before is None or before == now:
        return True
    revision = now.rpartition("@")[2]
    return revision != "None" and before.rpartition("@")[2] == revision


@contextmanager
def start_inference(config: RunConfig, target: Target) -> Iterator[tuple["RolloutGroup", "JudgeGroup"]]:
    """Engines over the model, sampled as evaluations are, and judges; for an endpoint the judges alone."""
    from actors.cluster import ray_cluster
    from actors.placement import check_fits, plan

    wanted = plan(config).inference_only(engines=target.path is not None)
    with ray_cluster(config.cluster) as nodes:
        from actors.spawn import Spawner  # imports Ray, which reads at its import whether tokens are on

        check_fits(wanted, nodes)
        spawner = Spawner(config, wanted, target.chat)
        try:
            rollouts, judge = spawner.start_inference(target.path or Path(), judge_models(config))
            yield rollouts.sampling(config.evaluation.temperature or 0.0, max_new_tokens(config)), judge
        finally:
            spawner.close()


def http_model(config: RunConfig, target: Target) -> HttpModel:
    """The endpoint as a model; raises ConfigError for an unusable token file."""
    from rapo_ray.engines.http_chat import EndpointSettings

    assert target.url is not None and target.served_name is not None
    endpoint = EndpointSettings(
        target.url, read_token(target.token_file), config.rollout.max_num_seqs, max_reply_bytes=16 << 20
    )
    evaluation, limit, prompt = config.evaluation, max_new_tokens(config), config.model.system_prompt
    sampling = (evaluation.temperature, limit, config.seed)
    return HttpModel(endpoint, target.served_name, prompt, *sampling, evaluation.request, target.chat)
