"""The number of sequences that an engine runs at once follows from its KV cache."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rapo_ray.engines.vllm_engine import EngineSettings, capacity
from rapo_ray.models.source import ModelSource

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("blocks", "expected_tokens", "at_once"),
    [(1000, 160, 100), (10**6, 160, 256), (1000, None, 256), (5, 16000, 1)],
)
def test_an_engine_runs_what_its_cache_holds_of_the_expected_length(
    blocks: int, expected_tokens: int | None, at_once: int
) -> None:
    model = ModelSource(Path("/m"), (), None, None, offline=True)
    settings = EngineSettings(model, "bfloat16", 4096, 256, 1, 0.85, False, True, 0, expected_tokens=expected_tokens)
    assert capacity(SimpleNamespace(num_gpu_blocks=blocks, block_size=16), settings) == at_once
