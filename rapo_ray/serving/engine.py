"""Ray Serve LLM's engine server, without its unneeded processes, and exiting together with its engine.

Each process that Ray starts imports vLLM, one after the other, and two of them are unnecessary here. See in Ray 2.60
`vllm_models.py`, `vllm_engine.py` and `node_initialization_utils.py` under `ray/llm/_internal/serve`.
"""

import asyncio
import logging
import os
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm.deployment import LLMServer

CHECK_SECONDS = 0.25  # between two health checks
GRACE_SECONDS = 0.5  # for waiting requests to learn of the engine's death

log = logging.getLogger(__name__)


class NoDownload(CallbackBase):
    """Callback that skips Ray's download task on every node, since the model is a folder."""

    async def on_before_node_init(self) -> None:
        """Skip the node's initialisation."""
        self.ctx.run_init_node = False


class EngineServer(LLMServer):
    """Server of one version's weights that exits when its engine dies.

    Without an engine it would refuse faster than others answer, and the router prefers free replicas: all requests
    would fail until Serve's health check has failed three times.
    """

    async def start(self) -> None:
        """Start the engine and the task that watches it."""
        await super().start()  # type: ignore[no-untyped-call]
        self._watch = asyncio.create_task(self._exit_with_engine())

    async def _exit_with_engine(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check_health()
            except Exception:
                log.exception("the engine is dead: this replica exits, and Serve starts another")
                await asyncio.sleep(GRACE_SECONDS)
                os._exit(1)


class CpuEngineServer(EngineServer):
    """Engine server with one process in place of the two that Ray always requests from vLLM on CPUs."""

    @classmethod
    def _get_default_engine_class(cls) -> type:
        return one_process_engine()


def one_process_engine() -> type:
    """Class of Ray's vLLM engine with vLLM's single-process executor (imports vLLM: call it only beside the engine)."""
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

    class OneProcessEngine(VLLMEngine):
        def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
            if vllm_engine_config.parallel_config.world_size == 1:
                vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
            return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)

    return OneProcessEngine
