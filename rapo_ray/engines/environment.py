"""The environment that a process with an engine needs before it imports torch or vLLM."""

import os
from typing import Literal


def engine_environment(
    device: Literal["cpu", "gpu"], num_threads: int, kv_cache_gib: int | None = None
) -> dict[str, str]:
    """Variables for one engine, policy or reference process; threads and cache matter on CPU alone."""
    env = {
        "HF_HUB_OFFLINE": "1",  # every model was resolved to a folder before
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core steps in the process itself
        "VLLM_NO_USAGE_STATS": "1",
    }
    if device == "cpu":
        env |= {"OMP_NUM_THREADS": str(num_threads), "DS_ACCELERATOR": "cpu", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        # Calls arrive on many threads: with an arena each, every sync would fault its tensors in anew. No more than
        # this: told to keep all that is freed, processes grew until Ray ended one for want of memory.
        env["MALLOC_ARENA_MAX"] = "1"
        if kv_cache_gib:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    return env


def cpu_threads(device: Literal["cpu", "gpu"], processes: int) -> int:
    """CPU threads of one of so many processes that share the cores (0 leaves it to the libraries, on GPU)."""
    return max(1, (os.cpu_count() or 1) // processes) if device == "cpu" else 0
