"""The warm-up on Ray Train: one DeepSpeed rank per worker, progress and the model by `ray.train.report`."""

import json
import os
import shutil
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from rapo_ray.config import RunConfig as RapoConfig
from rapo_ray.config.learning import PolicyConfig
from rapo_ray.config.run import WarmupConfig
from rapo_ray.errors import TrainingError
from rapo_ray.models.source import ModelSource
from rapo_ray.trainer.batch import Step

REPORTS = 5  # a report waits about a second for Ray Train's controller; the log has every step


def sft_worker(job: dict[str, Any]) -> None:
    """The training loop of one Ray Train worker."""
    import torch

    from rapo_ray.models.chat_template import load_tokenizer
    from rapo_ray.warmup.sft import SftRank

    context = ray.train.get_context()
    rank = context.get_world_rank()
    os.environ["LOCAL_SIZE"] = str(context.get_local_world_size())
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    steps: list[Step] = job["shares"][rank]
    warmup = WarmupConfig.model_validate(job["warmup"])
    policy = PolicyConfig.model_validate(job["policy"])
    model: Path = job["model"].on_this_node()
    tokenizer = load_tokenizer(model)
    trainer = SftRank(model, tokenizer, warmup, policy, len(steps))
    every = max(1, len(steps) // REPORTS)
    metrics: dict[str, float] = {}
    for metrics in trainer.run(steps):
        if rank == 0:
            with Path(job["log"]).open("a", encoding="utf-8") as log:
                log.write(json.dumps(metrics) + "\n")
        if metrics["step"] % every == 0 and metrics["step"] < len(steps):
            ray.train.report(metrics)
    with tempfile.TemporaryDirectory() as folder:
        trainer.export(Path(folder), write=rank == 0)
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder) if rank == 0 else None)


@dataclass(frozen=True, slots=True)
class SftJob:
    """A warm-up: the model to start from, its steps `[rank][step]`, and the folders that it writes."""

    model: Path
    shares: list[list[Step]]
    threads: int  # 0 leaves it to torch
    log: Path  # one line of metrics a step
    work: Path
    out: Path


def train_sft(config: RapoConfig, job: SftJob) -> float:
    """Run the warm-up and put its model into `job.out`; returns the last loss. Raises TrainingError where it fails."""
    gpu = config.cluster.device == "gpu"
    resources = {"CPU": config.cluster.cpus_per_actor, **({"GPU": 1.0} if gpu else {})}
    trainer = TorchTrainer(
        sft_worker,
        train_loop_config={
            "model": ModelSource.of(job.model),
            "shares": job.shares,
            "warmup": config.warmup.model_dump(mode="json"),
            "policy": config.policy.model_dump(mode="json"),
            "threads": job.threads,
            "log": str(job.log.resolve()),
            "seed": config.seed,
        },
        scaling_config=ScalingConfig(num_workers=config.policy.ranks, use_gpu=gpu, resources_per_worker=resources),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name="warmup", storage_path=str(job.work.resolve()), checkpoint_config=CheckpointConfig(num_to_keep=1)
        ),
    )
    try:
        result = fit_in_thread(trainer, config.limits.warmup)
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(f"the warm-up failed: {_root_line(error)}") from error
    if result.checkpoint is None or result.metrics is None:
        raise TrainingError(f"the warm-up ended without a model, see {job.work}")
    shutil.move(result.checkpoint.path, job.out)
    shutil.rmtree(job.work)
    return float(result.metrics["loss"])


def fit_in_thread(trainer: TorchTrainer, limit: float) -> Result:
    """Fit apart from the main thread; an interrupt reaches the caller. Raises TrainingError after `limit` seconds.

    In the main thread Ray 2.60 puts its own handler in the place of Python's, and never takes it back
    (train/v2/api/data_parallel_trainer.py): every later Ctrl-C would end the run with status 0, or not at all.
    """
    outcome: Future[Result] = Future()

    def fit() -> None:
        try:
            outcome.set_result(trainer.fit())
        except BaseException as error:  # handed to the caller, who waits
            outcome.set_exception(error)

    threading.Thread(target=fit, name="warm-up", daemon=True).start()
    try:
        return outcome.result(limit)
    except TimeoutError:
        if outcome.done():  # it is the warm-up's own
            raise
        raise TrainingError(f"the warm-up took longer than limits.warmup={limit:g} s: raise it") from None


def _root_line(error: BaseException) -> str:
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    error = getattr(error, "cause", None) or error
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
