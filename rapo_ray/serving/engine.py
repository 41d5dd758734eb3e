"""Ray Serve LLM's server of engines, without what ours do without, and with an end when its engine ends.

Each process that Ray starts imports vLLM, one after the other, and two of them are needless here. Read in Ray 2.60:
`vllm_models.py`, `vllm_engine.py` and `node_initialization_utils.py` under `ray/llm/_internal/serve`.
"""

import asyncio
import logging
import os
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm.deployment import LLMServer

LOOK_EVERY = 0.25  # seconds
LAST_WORDS = 0.5  # seconds in which those who wait hear of the engine's end

log = logging.getLogger(__name__)


class NoDownload(CallbackBase):
    """The model is a folder: no task on every node that would fetch it."""

    async def on_before_node_init(self) -> None:
        """Called before a node is made ready."""
        self.ctx.run_init_node = False


class EngineServer(LLMServer):
    """Serves one version's weights, and ends with its engine.

    Without one, it would refuse faster than others answer, and the router sends to whoever is free: all requests would
    fail until Serve's health checks have failed three times.
    """

    async def start(self) -> None:
        """Start the engine, and watch it."""
        await super().start()  # type: ignore[no-untyped-call]
        self._watch = asyncio.create_task(self._end_with_engine())

    async def _end_with_engine(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.check_health()
            except Exception:
                log.exception("the engine is dead: this replica ends, and Serve starts another")
                await asyncio.sleep(LAST_WORDS)
                os._exit(1)


class CpuEngineServer(EngineServer):
    """One process in place of the two that Ray asks vLLM for on CPUs, whatever the settings say."""

    @classmethod
    def _get_default_engine_class(cls) -> type:
        return one_process_engine()


def one_process_engine() -> type:
    """Ray's vLLM engine with vLLM's single-process executor (imports vLLM, so only where the engine runs)."""
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

    class OneProcessEngine(VLLMEngine):
        def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
            if vllm_engine_config.parallel_config.world_size == 1:
                vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
            return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)

    return OneProcessEngine
