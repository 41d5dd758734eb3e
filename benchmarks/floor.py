"""Limits of this machine: the matmul and copy rates from which lower bounds are computed."""

import math
import time
from collections.abc import Callable
from pathlib import Path

MATRIX = 2048  # rows and columns of the measured matmul
COPIED = 128 << 20  # bytes, more than any cache


def timed(act: Callable[..., object], *arguments: object) -> float:
    """Call a function and return the seconds that it took."""
    started = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - started


def matrix_rate(dtype: str) -> float:
    """Measure operations per second of a square matmul, the best of five."""
    import torch

    left = torch.randn(MATRIX, MATRIX, dtype=getattr(torch, dtype))
    return max(2 * MATRIX**3 / timed(lambda: left @ left) for _ in range(5))


def copy_rate() -> float:
    """Measure bytes per second of a copy within memory, the best of five."""
    import torch

    source, target = torch.ones(COPIED, dtype=torch.uint8), torch.ones(COPIED, dtype=torch.uint8)
    return max(COPIED / timed(lambda: target.copy_(source)) for _ in range(5))


def count_parameters(model: Path) -> int:
    """Count the parameters in a model's files, a tied head once; also the multiplications that a token takes."""
    from safetensors import safe_open

    total = 0
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # no mapping
                total += math.prod(weights.get_slice(name).get_shape())
    return total
