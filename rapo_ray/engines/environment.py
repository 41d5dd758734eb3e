"""The environment that a process with an engine needs before it imports torch or vLLM."""

import os
from typing import Literal

# glibc gives large blocks back to the kernel and has an arena for each thread: updates and syncs would fault all their
# tensors in anew. So one arena, and what was freed is used again; not what is larger than 32 MiB, whose fragments grow.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)
}  # fmt: skip


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
        env |= KEEP_MEMORY
        if kv_cache_gib:
            env["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    return env


def cpu_threads(device: Literal["cpu", "gpu"], processes: int) -> int:
    """CPU threads of one of so many processes that share the cores (0 leaves it to the libraries, on GPU)."""
    return max(1, (os.cpu_count() or 1) // processes) if device == "cpu" else 0
