"""Construction of a model judge from its config."""

import json
from dataclasses import dataclass
from pathlib import Path

from rapo_ray.config import RunConfig
from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.engines.http_chat import EndpointSettings
from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
from rapo_ray.judging.ask import Ask, JudgeSettings, Mode
from rapo_ray.judging.cache import CachedAsk, JudgementStore
from rapo_ray.judging.guards.families import read_guard
from rapo_ray.judging.guards.judge import GuardJudge
from rapo_ray.judging.http import HttpAsk, HttpSettings, check_url, read_token
from rapo_ray.judging.llm import LlmJudge
from rapo_ray.judging.probe import probe
from rapo_ray.judging.questions import Question, Reply, read_reply
from rapo_ray.judging.vllm_ask import AskLimits, VllmAsk
from rapo_ray.models.chat_template import judge_format
from rapo_ray.models.folder import fingerprint
from rapo_ray.models.source import ModelSource

JUDGEMENTS = ".judgements"  # below the folder of all runs, which share their cached judgements

BLOCK_TOKENS = 32  # on CPU, where vLLM needs a multiple of this; its default of 128 is more than questions share


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """Start arguments of a judge actor."""

    backend: JudgeBackendConfig
    mode: Mode
    revision: str | None
    engine: EngineSettings | None  # of a vllm judge
    cache: Path | None  # folder of cached judgements
    part: str = "risk"  # its section below `judge`


def judge_spec(config: RunConfig, part: str, model: Path | None) -> JudgeSpec:
    """Spec of one of a run's model judges, by part; `model` is the folder of a vllm judge's model."""
    judge = config.judge.named()[part]
    return JudgeSpec(
        part=part,
        backend=judge,
        mode=config.judge.mode,
        revision=judge.revision or (fingerprint(model) if model else None),
        engine=_engine_settings(config, part, model) if model else None,
        cache=(config.out / JUDGEMENTS).resolve() if config.judge.cache else None,
    )


def _engine_settings(config: RunConfig, part: str, model: Path) -> EngineSettings:
    judge = config.judge.named()[part]
    return EngineSettings(
        model=ModelSource.of(model),
        dtype=judge.dtype,
        max_model_len=judge.max_model_len,
        max_num_seqs=judge.max_num_seqs,
        tensor_parallel=judge.tensor_parallel,
        memory_share=judge.memory_share,
        enforce_eager=config.eager,
        chunked_prefill=config.cluster.device == "gpu",
        seed=config.seed,
        sleeps=config.rollout.colocate and config.cluster.device == "gpu",
        expected_tokens=max(1, judge.max_model_len // 2),
        block_tokens=BLOCK_TOKENS if config.cluster.device == "cpu" else None,
        chat=judge_format(judge, part, model),
    )


def judge_engine(spec: JudgeSpec) -> VllmEngine | None:
    """The engine of a vllm judge, started; None for one behind an endpoint."""
    return VllmEngine(spec.engine) if spec.engine is not None else None


def make_judge(name: str, spec: JudgeSpec, engine: VllmEngine | None) -> LlmJudge | GuardJudge:
    """Wrap the engine, or without one a client of the endpoint, in the cache and the judge."""
    backend = spec.backend
    settings = JudgeSettings(
        f"{backend.backend}:{backend.model}", spec.revision, spec.mode, backend.reply, backend.timeout
    )
    ask = _make_ask(spec, engine)
    family = backend.guard
    if spec.cache is not None:

        def read(question: Question, reply: Reply) -> object:
            return read_reply(question, reply) if family is None else read_guard(family, reply)

        ask = CachedAsk(ask, JudgementStore(spec.cache, name), judge_identity(spec), read)
    return LlmJudge(ask, settings) if family is None else GuardJudge(ask, settings, family)


def judge_identity(spec: JudgeSpec) -> str:
    """The judge of cached judgements: its model, its revision, and the settings that its replies depend on."""
    judge = spec.backend
    settings = judge.model_dump(mode="json", include={"max_thinking_tokens", "template_kwargs"}, exclude_defaults=True)
    if spec.engine is not None:
        settings["chat"] = spec.engine.chat.to_json()  # a question in another form is another question
    if judge.backend == "http":
        settings |= judge.request.model_dump(mode="json", exclude={"limit_field"}, exclude_defaults=True)
    more = f"?{json.dumps(settings, sort_keys=True)}" if settings else ""
    return f"{judge.backend}:{judge.model}@{spec.revision}{more}"


async def probe_endpoint(spec: JudgeSpec) -> str | None:
    """Send an http judge its first call; returns a warning or None, raises JudgeError where there is no reply."""
    if spec.backend.backend != "http":
        return None
    ask = _http_ask(spec.backend)
    try:
        return await probe(ask, spec.backend, spec.part)
    finally:
        await ask.close()


def _make_ask(spec: JudgeSpec, engine: VllmEngine | None) -> Ask:
    backend = spec.backend
    if engine is not None:
        limits = (backend.max_model_len, backend.max_reply_tokens, backend.max_thinking_tokens)
        return VllmAsk(engine, AskLimits(*limits, backend.template_kwargs))
    return _http_ask(backend)


def _http_ask(backend: JudgeBackendConfig) -> HttpAsk:
    assert backend.url is not None and backend.model is not None
    check_url(backend.url, backend.allow_private)
    return HttpAsk(
        HttpSettings(
            EndpointSettings(
                backend.url,
                read_token(backend.token_file),
                backend.concurrency,
                None if backend.per_minute is None else backend.per_minute / backend.actors,
                backend.retries,
            ),
            backend.model,
            backend.max_reply_tokens,
            backend.max_thinking_tokens,
            backend.template_kwargs,
            backend.request,
        )
    )
