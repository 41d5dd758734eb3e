"""Environment variables that an engine process needs before it imports torch or vLLM."""

import os
from typing import Literal


def engine_environment(
    device: Literal["cpu", "gpu"], num_threads: int, kv_cache_gib: int | None = None
) -> dict[str, str]:
    """Environment variables of an engine, policy or reference process; threads and KV cache apply to CPU only."""
    env = {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # an actor without GPUs sees none, on every node
        "HF_HUB_OFFLINE": "1",  # every model has been resolved to a folder already
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core runs in this process
        "VLLM_NO_USAGE_STATS": "1",
    }
    if device == "cpu":
        env |= {"OMP_NUM_THREADS": str(num_threads), "DS_ACCELERATOR": "cpu", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        # Calls arrive on many threads: with an arena each, every weight sync would page its tensors in again. Nothing
        # beyond this: with malloc told to keep all freed memory, processes grew until Ray killed one.
        env["MALLOC_ARENA_MAX"] = "1"
        if kv_cache_gib:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    return env


def cpu_threads(device: Literal["cpu", "gpu"], processes: int) -> int:
    """CPU threads for each of `processes` that share the cores; 0, on GPU, leaves the number to the libraries."""
    return max(1, (os.cpu_count() or 1) // processes) if device == "cpu" else 0
