"""What Ray Serve LLM starts that our engines do without; each part would import vLLM once more, one after the other.

Read in Ray 2.60: `vllm_models.py`, `vllm_engine.py` and `node_initialization_utils.py` under `ray/llm/_internal/serve`.
"""

from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm.deployment import LLMServer


class NoDownload(CallbackBase):
    """The model is a folder: no task on every node that would fetch it."""

    async def on_before_node_init(self) -> None:
        """Called before a node is made ready."""
        self.ctx.run_init_node = False


class CpuServer(LLMServer):
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
