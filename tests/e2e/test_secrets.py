"""Tokens: Ray's endpoints accept only the right one, and a judge's token never leaks."""

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import RAY, REPOSITORY, Cluster, environment, tiny_recipe
from tests.judge_server import Scripted, completion, judge_server

pytestmark = pytest.mark.e2e

SENTINEL = secrets.token_hex(24)  # generated, not literal: the tests themselves are uploaded with a job
JOB = "raysubmit_of_nobody"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("DELETE", f"/api/jobs/{JOB}"), ("GET", "/api/serve/applications/"),
     ("GET", "/logical/actors"), ("GET", "/nodes?view=summary")],
)  # fmt: skip
def test_ray_s_endpoints_accept_only_the_right_token(cluster: Cluster, method: str, path: str) -> None:
    def status(token: str | None) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.request(method, cluster.dashboard + path, headers=headers, json={}, timeout=60).status_code

    right = Path(cluster.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert (status(None), status("f" * 64)) == (401, 403)
    assert status(right) not in (401, 403)


def test_a_judge_s_token_is_in_no_log_no_listing_and_no_run(
    tiny: Path, warmed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SENTINEL)
    (tmp_path / "token").chmod(0o600)

    def script(body: dict[str, Any], before: int) -> Scripted:
        schema = json.dumps(body.get("response_format", {}))
        names = [name for name in ("only_safety_analysis", "refuses", "helps") if name in schema]
        decision = {"decision": "none"} if "decision" in schema else {}
        return completion(json.dumps(dict.fromkeys(names, True) | decision))

    with judge_server(script) as judge:
        risk = {"backend": "http", "model": "m", "url": judge.url, "allow_private": True, "retries": 0, "timeout": 60,
                "token_file": str(tmp_path / "token")}  # fmt: skip
        recipe = tiny_recipe(tiny, tmp_path / "out", rounds=1, judge={"risk": risk}, **warmed)
        submit = [*RAY, "job", "submit", "--address", cluster.dashboard, "--working-dir", str(REPOSITORY), "--"]
        env = environment(**cluster.env)
        del env["RAY_ADDRESS"]
        done = subprocess.run(
            [*submit, sys.executable, "-m", "rapo_ray.train", "--config", str(recipe)],
            cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=540, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert any(SENTINEL in value for headers in judge.headers for value in headers.values()), "it was never sent"
    token = Path(cluster.env["RAY_AUTH_TOKEN_PATH"]).read_text()
    jobs = httpx.get(f"{cluster.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=60).text
    shown = {"the job API": jobs, "the output": done.stdout + done.stderr}
    files = [path for root in (cluster.folder, tmp_path / "out") for path in root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files) and any(path.name == "metrics.jsonl" for path in files)
    shown |= {str(path): path.read_bytes().decode(errors="replace") for path in files}
    for secret in (SENTINEL, token):
        leaks = [place for place, text in shown.items() if secret in text]
        assert leaks == ([cluster.env["RAY_AUTH_TOKEN_PATH"]] if secret == token else [])
