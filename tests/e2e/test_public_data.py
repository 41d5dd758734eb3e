"""Real public data end to end: STAR-1, StrataSword and MATH, judged by a vLLM judge."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Cluster, tiny_recipe, train

pytestmark = pytest.mark.e2e


def test_two_rounds_on_public_data(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path: Path, shared_data: Path
) -> None:
    model = str(tiny / "model")
    recipe = tiny_recipe(
        tiny,
        tmp_path,
        prompts_per_round=12,
        samples_per_prompt=2,
        data={
            "train": "stratasword:12,star1:6,math:6",
            "sources": {
                "stratasword": {"kind": "stratasword", "path": str(shared_data)},
                "star1": {"kind": "star1", "path": str(shared_data / "STAR-1.json")},
                "math": {"kind": "math500", "path": str(shared_data / "MATH-500.jsonl")},
                "tiny": {"kind": "file", "path": str(tiny / "prompts.jsonl")},
            },
        },
        rollout={"max_prompt_tokens": 4096, "max_new_tokens": 96},
        judge={"risk": {"backend": "vllm", "model": model, "dtype": "float32", "max_model_len": 8192}},
        **warmed,
    )
    done = train(recipe, joining=cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        row
        for path in sorted((tmp_path / "tiny" / "rounds").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == 2 * 12 * 2
    assert all(row["prompt"].strip() for row in rows)
    assert {row["prompt_level"] for row in rows} >= {1, 2, 3}
    assert {row["source"] for row in rows} == {"stratasword", "star1", "math"}
    assert any(row["status"] == "ok" and row["judge"].startswith("vllm:") for row in rows)
    assert all(row["status"] in ("ok", "malformed") for row in rows), {row["judge_detail"] for row in rows}
