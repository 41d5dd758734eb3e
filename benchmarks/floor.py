"""What this machine could do at best: its matrix and copy rates, which floors are computed from."""

import math
import time
from collections.abc import Callable
from pathlib import Path

MATRIX = 2048  # rows and columns of the measured product
COPIED = 128 << 20  # bytes, more than any cache


def timed(act: Callable[..., object], *arguments: object) -> float:
    """Seconds."""
    started = time.perf_counter()
    act(*arguments)
    return time.perf_counter() - started


def matrix_rate(dtype: str) -> float:
    """Operations a second of a square product, the best of five."""
    import torch

    left = torch.randn(MATRIX, MATRIX, dtype=getattr(torch, dtype))
    return max(2 * MATRIX**3 / timed(lambda: left @ left) for _ in range(5))


def copy_rate() -> float:
    """Bytes a second of a copy between two places that are in memory already, the best of five."""
    import torch

    source, target = torch.ones(COPIED, dtype=torch.uint8), torch.ones(COPIED, dtype=torch.uint8)
    return max(COPIED / timed(lambda: target.copy_(source)) for _ in range(5))


def count_parameters(model: Path) -> int:
    """Numbers in a model's files, a tied head counted once: also the multiplications that a token takes."""
    from safetensors import safe_open

    total = 0
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # no mapping
                total += math.prod(weights.get_slice(name).get_shape())
    return total
