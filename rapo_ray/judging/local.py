"""A run's judges in this process, without Ray, for offline judging and for other trainers."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rapo_ray.config import RunConfig
from rapo_ray.judging.http import check_judges
from rapo_ray.judging.parts import PARTS, Part, hold_to_answer, join_parts
from rapo_ray.judging.rules import RulesJudge
from rapo_ray.types import Completion, Prompt, Verdict

log = logging.getLogger(__name__)

JudgeOne = Callable[[Prompt, Completion], Awaitable[Verdict]]
JudgeParts = Callable[[Prompt, Completion, tuple[Part, ...]], Awaitable[Verdict]]


def local_judge(config: RunConfig, parts: tuple[Part, ...] = PARTS) -> JudgeOne:
    """The judge of one completion, or of parts of it, that `config.judge` describes.

    Raises ConfigError, ModelError or JudgeError.
    """
    check_judges(config.judge)
    together = config.judge.general is None
    judges = [_judge_of(config, part) for part in (("risk",) if together else parts)]

    async def judge(prompt: Prompt, completion: Completion) -> Verdict:
        if together:
            verdict = await judges[0](prompt, completion, parts)
        else:
            calls = (one(prompt, completion, (part,)) for one, part in zip(judges, parts, strict=True))
            verdict = join_parts(await asyncio.gather(*calls))
        return hold_to_answer(verdict, completion, config.judge.checks_consistency)

    return judge


async def judge_by_rule(prompt: Prompt, completion: Completion, parts: tuple[Part, ...]) -> Verdict:
    """The rules judge's verdict, always with both parts, which cost nothing."""
    return RulesJudge().judge(prompt, completion)


def _judge_of(config: RunConfig, part: str) -> JudgeParts:
    backend = config.judge.named()[part]
    if backend.backend == "rules":
        return judge_by_rule
    from rapo_ray.engines.environment import cpu_threads, engine_environment
    from rapo_ray.models.resolve import resolve_model

    model = None
    if backend.backend == "vllm":
        assert backend.model is not None
        model = Path(resolve_model(backend.model, backend.revision))
        device = config.cluster.device
        os.environ.update(engine_environment(device, cpu_threads(device, 1), backend.kv_cache_gib))
    from rapo_ray.judging.backends import (  # imports vLLM: reads the environment
        judge_engine,
        judge_spec,
        make_judge,
        probe_endpoint,
    )

    spec = judge_spec(config, part, model)
    with ThreadPoolExecutor(1) as apart:  # the caller may have a running loop, as a notebook has
        warning = apart.submit(asyncio.run, probe_endpoint(spec)).result()
    if warning is not None:
        log.warning(warning)
    return make_judge(f"local-{part}", spec, judge_engine(spec)).judge
