"""Models of the hub, fetched by several processes of a node at once from a hub on this machine."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rapo_ray.models.source import ModelSource

pytestmark = pytest.mark.cluster

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


class Hub(http.server.BaseHTTPRequestHandler):
    """The hub's API as far as a snapshot of org/name needs it, on this machine."""

    requests: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        Hub.requests[self.path.partition("?")[0]] += 1
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path == f"/api/models/org/name/tree/{COMMIT}":
            rows = [{"type": "file", "path": each, "size": 2, "oid": each} for each in FILES]
            self._send(json.dumps(rows), {"Content-Type": "application/json"}, body)
        elif path == f"/org/name/resolve/{COMMIT}/{name}":
            self._send("{}", {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, body)
        else:
            self.send_error(404)

    def _send(self, text: str, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.requests.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_actors_of_one_node_fetch_a_snapshot_once_and_stay_offline_otherwise(tmp_path: Path, hub: str) -> None:
    source = ModelSource(tmp_path / "of-the-driver", FILES, "org/name", COMMIT, offline=False)
    code = (
        "from pathlib import Path; from huggingface_hub import is_offline_mode; "
        "from rapo_ray.models.source import ModelSource; "
        f"print({source!r}.on_this_node(), is_offline_mode())"
    ).replace("PosixPath", "Path")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")}
    env |= {"HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    actors = [subprocess.Popen([sys.executable, "-c", code], env=env, **pipes) for _ in range(3)]
    printed = [actor.communicate(timeout=120) for actor in actors]
    folder = tmp_path / "home" / "hub" / "models--org--name" / "snapshots" / COMMIT
    assert [out.strip() for out, _ in printed] == [f"{folder} True"] * 3, printed
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert {name: Hub.requests[f"/org/name/resolve/{COMMIT}/{name}"] for name in FILES} == dict.fromkeys(FILES, 1)
