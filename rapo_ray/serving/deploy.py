"""Starting applications on Ray Serve, changing over between versions, and the record of both."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from rapo_ray.atomic import write_text_atomically
from rapo_ray.config.serving import ServeConfig
from rapo_ray.errors import ConfigError, RapoError, ServingError
from rapo_ray.models.published import read_published
from rapo_ray.serving.versions import Serving, serving_of

POLL = 0.5
SAY_EVERY = 10.0
SETTLE = 2.0  # seconds for requests that have just taken the old version's handle
NAME = "rapo"  # of the ingress application


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history: what was served from when on, and why."""

    at: str
    action: str  # serve, promote or rollback
    model: str
    serving: Serving


class State:
    """What an endpoint's commands share: its settings and its history, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._settings = folder / "serving.yaml"
        self._history = folder / "history.jsonl"
        self._folder = folder

    def settings(self) -> ServeConfig:
        """The running endpoint's; raises ConfigError where there is none."""
        try:
            return ServeConfig.model_validate(yaml.safe_load(self._settings.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ConfigError(
                f"{self._folder} knows no endpoint: start one with `python -m rapo_ray.serve`, or name its --state"
            ) from None

    def keep(self, config: ServeConfig) -> None:
        """Write the settings."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_text_atomically(self._settings, text)

    def history(self) -> list[Change]:
        """All changes, oldest first."""
        if not self._history.exists():
            return []
        rows = [json.loads(line) for line in self._history.read_text(encoding="utf-8").splitlines()]
        return [Change(row["at"], row["action"], row["model"], Serving(**row["serving"])) for row in rows]

    def add(self, action: str, model: Path, serving: Serving) -> None:
        """Append a change."""
        change = Change(datetime.now(UTC).isoformat(timespec="seconds"), action, str(model), serving)
        with self._history.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(change)) + "\n")


def previous(history: list[Change]) -> Change:
    """The last change to other weights than those served now; raises ConfigError where there is none."""
    if history:
        now = history[-1].serving.id
        for change in reversed(history):
            if change.serving.id != now:
                return change
    raise ConfigError("there is nothing to roll back to: no other weights were served before")


def start(config: ServeConfig, state: State, host: str, port: int, limit: float, say: Callable[[str], None]) -> Serving:
    """Start engines and ingress on the cluster that this process has joined; raises ServingError."""
    from ray import serve
    from ray.serve.config import HTTPOptions

    published = read_published(config.model)
    serving = serving_of(published, config.name)
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host=host, port=port))
    say(f"starting the endpoint and the engines of {serving.id}")
    put([_engines(config, serving), _ingress(config, serving)], limit, say)
    state.keep(config)
    state.add("serve", config.model, serving)
    return serving


def promote(state: State, model: Path, action: str, limit: float, say: Callable[[str], None]) -> Serving:
    """Serve other weights from the running endpoint: engines beside, change-over between requests, old ones drained."""
    config = state.settings().model_copy(update={"model": model})
    before = state.history()[-1].serving if state.history() else None
    name = before.name if before else config.name
    serving = serving_of(read_published(model), name)
    if before is not None and before.id == serving.id:
        say(f"{serving.id} is served already")
        return serving
    change_over(config, serving, limit, say)
    state.keep(config)
    state.add(action, model, serving)
    if before is not None:
        retire(before.app, say)
    return serving


def follow(run: Path, state: State, limit: float, say: Callable[[str], None]) -> None:
    """Promote a run's best weights where its gate lets them; says why where it does not."""
    from rapo_ray.serving.gates import check_gate

    try:
        check_gate(read_published(run / "best"))
        promote(state, run / "best", "follow", limit, say)
    except RapoError as error:
        say(f"not promoted: {error}")


def change_over(config: ServeConfig, serving: Serving, limit: float, say: Callable[[str], None]) -> None:
    """Engines of these weights first, then the ingress onto them; where the engines fail, nothing has changed."""
    from ray import serve

    say(f"starting engines of {serving.id}")
    try:
        put([_engines(config, serving)], limit, say)
    except ServingError:
        serve.delete(serving.app, _blocking=False)
        raise
    put([_ingress(config, serving)], limit, say)


def _engines(config: ServeConfig, serving: Serving) -> Any:
    from ray.serve.api import RunTarget

    from rapo_ray.serving.app import model_app

    return RunTarget(target=model_app(config), name=serving.app, route_prefix=None)


def _ingress(config: ServeConfig, serving: Serving) -> Any:
    from ray.serve.api import RunTarget

    from rapo_ray.serving.app import ingress_for

    return RunTarget(target=ingress_for(config, serving), name=NAME, route_prefix="/")


def retire(app: str, say: Callable[[str], None]) -> None:
    """Drain and end the engines of other weights."""
    from ray import serve

    time.sleep(SETTLE)
    say(f"draining {app}")
    serve.delete(app)


def put(targets: list[Any], limit: float, say: Callable[[str], None]) -> None:
    """Deploy applications and wait until all run; says what it waits for, raises ServingError at the limit."""
    from ray import serve

    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    started = said = time.monotonic()
    waiting = [target.name for target in targets]
    while waiting:
        status = serve.status().applications[waiting[0]]
        now = time.monotonic()
        if status.status == "RUNNING":
            waiting.pop(0)
        elif status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ServingError(f"{waiting[0]} did not start: {_why(status)}")
        elif now - started > limit:
            raise ServingError(
                f"{waiting[0]} is {status.status} after {limit:g} s: raise --start-limit, or see Serve's logs"
            )
        else:
            if now - said > SAY_EVERY:
                said = now
                say(f"waiting for {waiting[0]}, {now - started:.0f} s so far")
            time.sleep(POLL)


def _why(status: Any) -> str:
    words = [status.message, *(one.message for one in status.deployments.values())]
    lines = [line.strip() for text in words for line in str(text).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "Serve does not say why"
