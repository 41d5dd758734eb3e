"""A whole run: everything read and checked, a cluster, and as many attempts as the restarts allow."""

import logging
import os
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

from rapo_ray import console
from rapo_ray.config import RunConfig
from rapo_ray.errors import ActorDied, NonFiniteStep
from rapo_ray.models.chat import ChatFormat
from rapo_ray.models.resolve import judge_models, resolve_model
from rapo_ray.monitoring.watchers import Watchers
from rapo_ray.pipeline.identity import run_content
from rapo_ray.pipeline.inputs import chat_format, check_judge_formats, load_inputs
from rapo_ray.pipeline.session import Session
from rapo_ray.report import page, terminal
from rapo_ray.storage.run_folder import RunFolder


def run(config: RunConfig) -> None:
    """Start a run, or resume it where it stopped; raises a one-line RapoError."""
    from actors.cluster import ray_cluster

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _quiet_libraries()
    inputs = load_inputs(config)  # first: a run that cannot read its data, or its models, leaves no folder behind
    folder = RunFolder(config)
    models = None if folder.finished() else load_models(config)
    with ExitStack() as stack:
        folder.open(None if models is None else run_content(inputs, models[0], models[2]))
        stack.callback(folder.close)
        if (summary := folder.finished()) is not None:
            ignored = ", ".join(folder.not_applied())
            console.say(
                f"{folder.path} is finished already and stays as it is"
                + (f" (not applied: {ignored})" if ignored else "")
                + "; change `name` for a new run"
            )
            terminal.show_summary(summary)
            if not folder.report.exists():
                page.publish_report(folder.path)
            return
        stack.push(partial(_record_failure, folder))
        folder.record_contamination(inputs.contaminated)
        watchers = stack.enter_context(closing(Watchers(config)))
        base, chat, judges = models or load_models(config)
        nodes = stack.enter_context(ray_cluster(config.cluster))
        stack.enter_context(watchers.exporting())
        _attempts(Session(config, folder, inputs, watchers, base, chat), judges, nodes)
        if config.serve.follow:
            _follow(config, folder.path)


def _record_failure(folder: RunFolder, _kind: object, error: BaseException | None, _traceback: object) -> None:
    """Leave the reason of a failure in the folder; an interrupt is none."""
    if isinstance(error, Exception):
        with suppress(OSError):  # a full disk, which then is the error
            folder.record_failure(error)


def load_models(config: RunConfig) -> tuple[Path, ChatFormat, dict[str, Path]]:
    """Folder and chat format of the model, and the folders of vllm judges' models by part; raises ModelError."""
    base = resolve_model(config.model.path, config.model.revision)
    chat, judges = chat_format(config, base), judge_models(config)
    check_judge_formats(config, judges)
    return base, chat, judges


def _attempts(session: Session, judges: dict[str, Path], nodes: list[dict[str, float]]) -> None:
    """Run until done; where an actor is lost that cannot be replaced within a round, restart from the checkpoint."""
    from actors.memory_plan import say_plan
    from actors.placement import check_fits, describe, plan
    from actors.spawn import Spawner

    config = session.config
    console.say(describe(plan(config)))
    say_plan(config, console.say)
    check_fits(plan(config), nodes)
    for left in range(config.limits.restarts, -1, -1):
        spawner = Spawner(config, plan(config), session.chat)
        try:
            return session.go(spawner, judges)
        except (ActorDied, NonFiniteStep) as error:
            if not left:
                raise
            session.watchers.exported.restarted("run")
            console.say(f"{error}; starting over from the last checkpoint, {left} of {config.limits.restarts} left")
        finally:
            spawner.close()


def _follow(config: RunConfig, run: Path) -> None:
    from rapo_ray.serving.deploy import follow
    from rapo_ray.serving.state import State

    state = State(config.serve.state or config.out / ".serving")
    follow(run.resolve(), state, config.limits.start, console.say)


def _quiet_libraries() -> None:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("httpx", "httpcore", "matplotlib", "ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.WARNING)
