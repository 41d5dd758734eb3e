"""From a judge's config to a judge."""

from dataclasses import dataclass
from pathlib import Path

from rapo_ray.config import JudgeBackendConfig
from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
from rapo_ray.judging.cache import CachedAsk, JudgementStore
from rapo_ray.judging.guards import GuardJudge, read_guard
from rapo_ray.judging.http import HttpAsk, HttpSettings, check_url, read_token
from rapo_ray.judging.llm import Ask, JudgeSettings, LlmJudge, Mode
from rapo_ray.judging.questions import Question, Reply, read_reply
from rapo_ray.judging.vllm_ask import VllmAsk


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """What a judge actor is started with."""

    backend: JudgeBackendConfig
    mode: Mode
    revision: str | None
    engine: EngineSettings | None  # of a vllm judge
    cache: Path | None  # folder of kept judgements


def make_judge(name: str, spec: JudgeSpec) -> LlmJudge | GuardJudge:
    """Start the engine or open the client, and put judge and cache around it."""
    backend = spec.backend
    settings = JudgeSettings(
        f"{backend.backend}:{backend.model}", spec.revision, spec.mode, backend.reply, backend.timeout
    )
    ask = _make_ask(spec)
    family = backend.guard
    if spec.cache is not None:

        def read(question: Question, reply: Reply) -> object:
            return read_reply(question, reply) if family is None else read_guard(family, reply)

        identity = f"{settings.id}@{spec.revision}"
        ask = CachedAsk(ask, JudgementStore(spec.cache, name), identity, read)
    return LlmJudge(ask, settings) if family is None else GuardJudge(ask, settings, family)


def _make_ask(spec: JudgeSpec) -> Ask:
    backend = spec.backend
    if backend.backend == "vllm":
        assert spec.engine is not None
        return VllmAsk(VllmEngine(spec.engine), backend.max_model_len, backend.max_reply_tokens)
    assert backend.url is not None and backend.model is not None
    check_url(backend.url, backend.allow_private)
    return HttpAsk(
        HttpSettings(
            backend.url,
            backend.model,
            read_token(backend.token_file),
            backend.concurrency,
            None if backend.per_minute is None else backend.per_minute / backend.actors,
            backend.retries,
            max_tokens=backend.max_reply_tokens,
        )
    )
