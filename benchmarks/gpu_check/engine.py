"""Stage `engine`: a `VllmEngine` with CUDA graphs: tokens a second, first token, weight sync, sleep and wake.

The weights come from a second process on the same card, as a policy's do: by CUDA IPC on a GPU, by shared memory on
CPU. They are the negative of those that the engine started with, so that its checksums tell them apart.
"""

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.models import SHAPES, random_model, random_tokens
from benchmarks.gpu_check.record import Check, Record, gib
from rapo_ray.engines.memory import engine_memory
from rapo_ray.engines.vllm_engine import EngineSettings, VllmEngine
from rapo_ray.models.source import ModelSource
from rapo_ray.types import Sampling

MEMORY_SHARE = 0.5  # of the card; the weights' sender needs a little of the rest
PROMPT = 128  # tokens


def run(check: Check, record: Record) -> None:
    """Generate, take new weights awake and asleep, and generate again."""
    name = check.shapes[0]
    folder = random_model(name, check.models, check.device)
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a fork
    connection, theirs = context.Pipe()
    sender = context.Process(target=send, args=(theirs, folder, check.on_gpu), daemon=True)  # imports meanwhile
    sender.start()
    theirs.close()
    sequences, length = ((64, 256), 256) if check.on_gpu else ((2, 4), 8)
    settings = engine_settings(folder, check.on_gpu, sequences[-1], PROMPT + length)
    started = time.perf_counter()
    engine = VllmEngine(settings)
    shown = {key: value for key, value in asdict(settings).items() if key != "model"}  # a folder that will be gone
    record.add(shape=name, settings=shown, start_seconds=time.perf_counter() - started)
    if check.on_gpu:
        record.add(**cache(engine, name, settings))
    vocabulary = SHAPES[name].vocabulary
    generate(engine, vocabulary, 1, 1, seed=0)  # warm-up
    record.add(first_token_seconds=generate(engine, vocabulary, 1, 1, seed=1)["seconds"])
    for count in sequences:
        record.append("generated", generate(engine, vocabulary, count, length, seed=count))

    before = engine.weight_checksums("bfloat16")
    awake = synced(engine, connection, 1)
    asleep_for = asleep(engine) if check.on_gpu else {"sleep": "not on CPU"}
    again = synced(engine, connection, 2)
    held, sent = engine.weight_checksums("bfloat16"), again.pop("checksums")
    awake.pop("checksums")
    record.add(
        sync_awake=awake,
        **asleep_for,
        sync_asleep=again if check.on_gpu else "not on CPU",
        weights=len(sent),
        weights_held=sum(held.get(name) == digest for name, digest in sent.items()),
        weights_as_before=sum(before.get(name) == digest for name, digest in sent.items()),
        weight_version=engine.weight_version(),
    )
    if check.on_gpu:  # waking is what a sync of a sleeping engine takes longer at its start and its end
        record.add(wake_seconds=sum(again[part] - awake[part] for part in ("start_seconds", "finish_seconds")))
    record.append("generated", generate(engine, vocabulary, sequences[0], length, seed=1000))
    connection.send(None)
    sender.join()


def engine_settings(folder: Path, on_gpu: bool, max_num_seqs: int, max_model_len: int) -> EngineSettings:
    """An engine as runs start it."""
    return EngineSettings(
        model=ModelSource.of(folder),
        dtype="bfloat16",
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        tensor_parallel=1,
        memory_share=MEMORY_SHARE,
        enforce_eager=not on_gpu,
        chunked_prefill=on_gpu,
        seed=0,
        weight_backend="ipc" if on_gpu else "shm",
        sleeps=on_gpu,
    )


def cache(engine: VllmEngine, name: str, settings: EngineSettings) -> dict[str, float]:
    """Tokens that the KV cache holds, and those of the memory plan."""
    card = torch.cuda.get_device_properties(0).total_memory
    plan = engine_memory(SHAPES[name], card, settings.memory_share, 1, settings.max_num_seqs, settings.enforce_eager)
    config = engine._llm.llm_engine.vllm_config.cache_config
    return {"cache_tokens": config.num_gpu_blocks * config.block_size, "planned_cache_tokens": plan.sequences(1)}


def generate(engine: VllmEngine, vocabulary: int, count: int, length: int, seed: int) -> dict[str, float]:
    """Sample `count` completions of `length` tokens with seeds and log-probs, as rollouts are; prompts are new."""
    requests = [
        (list(random_tokens(PROMPT, vocabulary, 1000 * seed + index)), Sampling(1.0, 1.0, length, index, True))
        for index in range(count)
    ]
    started = time.perf_counter()
    results = [future.result() for future in engine.submit(requests)]
    seconds = time.perf_counter() - started
    tokens = sum(len(result.tokens) for result in results)
    return {"sequences": count, "tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}


def asleep(engine: VllmEngine) -> dict[str, float]:
    """Put the engine to sleep; returns seconds, and GiB that the card gains."""
    before, _ = torch.cuda.mem_get_info()
    started = time.perf_counter()
    engine.sleep(level=2)
    seconds = time.perf_counter() - started
    after, _ = torch.cuda.mem_get_info()
    return {"sleep_seconds": seconds, "freed_gib": gib(after - before)}


def synced(engine: VllmEngine, connection: Connection, version: int) -> dict[str, Any]:
    """Take the sender's weights as `version`; returns seconds of each part, bytes, and checksums of what was sent."""
    engine.pause()
    parts = {
        "start_weight_update": 0.0,
        "update_weights": 0.0,
        "finish_weight_update": 0.0,
        "init_weight_transfer": 0.0,
    }
    connection.send(version)
    while True:
        method, arguments = connection.recv()  # EOFError where the sender died
        if method == "sent":
            break
        started = time.perf_counter()
        getattr(engine, method)(*arguments)
        parts[method] += time.perf_counter() - started
        connection.send(None)
    engine.resume()
    return {**{f"{part.split('_')[0]}_seconds": seconds for part, seconds in parts.items()}, **arguments}


class EngineClient:
    """vLLM's weight-sync client over a pipe: each call waits until the engine has taken it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.version = 0

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Open the transfer."""
        self._call("init_weight_transfer", init_info)

    def start_weight_update(self) -> None:
        """Begin an update."""
        self._call("start_weight_update")

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Send one bucket."""
        self._call("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Finish the update."""
        self._call("finish_weight_update", self.version)

    def _call(self, method: str, *arguments: object) -> None:
        self._connection.send((method, arguments))
        self._connection.recv()


class Weights:
    """Plain tensors with a policy's two methods for sending them."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def weights_metadata(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor."""
        return [(name, tuple(tensor.shape)) for name, tensor in self._tensors.items()]

    def weights(self, dtype: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Iterate over the tensors in `dtype`."""
        return ((name, tensor.to(getattr(torch, dtype))) for name, tensor in self._tensors.items())


def send(connection: Connection, folder: Path, on_gpu: bool) -> None:
    """Send the folder's weights, negated, once for every version that comes; runs in a process of its own."""
    from safetensors.torch import load_file

    from rapo_ray.engines.shared_memory import PolicySource
    from rapo_ray.engines.worker_extension import digest

    tensors = {name: -tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    checksums = {name: digest(tensor) for name, tensor in tensors.items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    client, trainer = EngineClient(connection), None
    for client.version in iter(connection.recv, None):
        if trainer is None:  # not before the engine has measured the card's free memory
            on_device = {name: tensor.to("cuda" if on_gpu else "cpu") for name, tensor in tensors.items()}
            trainer = open_trainer(client, PolicySource(Weights(on_device), "bfloat16"), on_gpu)
        started = time.perf_counter()
        trainer.send_weights()
        seconds = time.perf_counter() - started
        connection.send(("sent", {"seconds": seconds, "gib": gib(size), "checksums": checksums}))


def open_trainer(client: EngineClient, source: Any, on_gpu: bool) -> Any:
    """Open vLLM's transfer: CUDA IPC on a GPU, in buckets; shared memory on CPU."""
    if on_gpu:
        from vllm.distributed.weight_transfer import ipc_engine

        # vLLM's default bucket, 1 GiB, holds the largest embedding here.
        ipc = ipc_engine.IPCTrainerInitInfo(rank=0, packed=True)
        return ipc_engine.IPCTrainerWeightTransferEngine.trainer_init(ipc, client=client, source=source)
    from rapo_ray.engines.shared_memory import SharedMemoryTrainer, SharedMemoryTrainerInitInfo

    shm = SharedMemoryTrainerInitInfo(rank=0)
    return SharedMemoryTrainer.trainer_init(shm, client=client, source=source)
