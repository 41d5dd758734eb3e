"""DeepSpeed: its configuration, derived from ours, and one engine per rank."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.trainer.kernels import load_cpu_kernels
from rapo_ray.trainer.lora import merged, named_weights, parts
from rapo_ray.trainer.memory import BUCKET
from rapo_ray.trainer.model import ActionLogProbs, load_for_training


def join_process_group(rank: int, num_ranks: int, address: str, port: int, device: str) -> None:
    """Join the ranks' process group: gloo on CPU, nccl on GPU."""
    os.environ.update(
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
        RANK=str(rank),
        WORLD_SIZE=str(num_ranks),
        LOCAL_RANK="0",  # Ray shows an actor only its own GPU
        LOCAL_SIZE=str(num_ranks),
    )
    import deepspeed

    load_cpu_kernels()
    deepspeed.init_distributed(dist_backend="gloo" if device == "cpu" else "nccl", verbose=False)


def forget_shared_buffers() -> None:
    """Unlink the buffers that DeepSpeed's CPU collectives keep in /dev/shm, 69 MB per rank.

    Processes that use them keep them mapped; DeepSpeed unlinks them only on a clean exit, which a killed actor never
    reaches. Call it once all ranks have opened them (the collectives in `make_engine` do).
    """
    import deepspeed.comm as dist

    dist.barrier()
    name = f"deepspeed_allreduce_buffer_*_{os.environ['MASTER_ADDR']}_{os.environ['MASTER_PORT']}_*"
    for path in Path("/dev/shm").glob(name):
        path.unlink(missing_ok=True)  # another rank may have been faster


def deepspeed_config(config: PolicyConfig, learning_rate: float, num_ranks: int) -> dict[str, Any]:
    """DeepSpeed's configuration for a policy; micro-batching is ours, so gradient accumulation stays at one."""
    # Gather and reduce on streams of their own, beside the arithmetic; below stage 2 that needs managed accumulation.
    overlapped = torch.cuda.is_available() and config.zero_stage >= 2
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "overlap_comm": overlapped,
        "reduce_bucket_size": BUCKET,
        "allgather_bucket_size": BUCKET,
    }
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "train_batch_size": num_ranks,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,  # backward only accumulates; step() reduces and updates
        "gradient_clipping": config.grad_clip,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.dtype == "bfloat16"},
        # Stage 0 accumulates in the policy's own dtype: DeepSpeed has no other way there.
        **({"data_types": {"grad_accum_dtype": "fp32"}} if config.zero_stage else {}),
        "steps_per_print": 2**31,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": learning_rate,
                "betas": list(config.adam_betas),
                "eps": 1e-8,
                "weight_decay": config.weight_decay,
                "torch_adam": True,
                "fused": True,
            },
        },
    }


@contextmanager
def sharded_loading(config: PolicyConfig, num_ranks: int) -> Iterator[None]:
    """Let transformers load a model in shards under ZeRO-3: without it every rank would hold the whole model."""
    if config.zero_stage < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    registered = HfDeepSpeedConfig(deepspeed_config(config, config.learning_rate, num_ranks))  # for as long as it lives
    yield
    del registered


def load_policy(path: Path, config: PolicyConfig) -> Any:
    """Load a model to train, under ZeRO-3 in shards."""
    with sharded_loading(config, config.ranks):
        model = load_for_training(path, config)
    if config.zero_stage == 3:
        _restore_rotations(model)
    return model


def _restore_rotations(model: torch.nn.Module) -> None:
    """Compute the rotary frequencies in float32: zero.Init rounds every float tensor of a model's construction to
    bfloat16, with which a rotation at position 8,000 is off by a radian (DeepSpeed issue 4932).
    """
    for module in model.modules():
        if "RotaryEmbedding" in type(module).__name__:
            fresh: Any = type(module)(module.config)
            for name, buffer in fresh.named_buffers():
                module.register_buffer(name, buffer.to(module.get_buffer(name).device), persistent=False)


def make_engine(
    module: ActionLogProbs, config: PolicyConfig, learning_rate: float, num_ranks: int, schedule: Any
) -> Any:
    """Wrap `module` in a DeepSpeed engine; `schedule` makes the learning-rate scheduler from the optimizer."""
    import deepspeed

    if config.zero_stage == 3:
        for weight in module.head.weights:
            if weight is not None:
                deepspeed.zero.register_external_parameter(module.head, weight)
    if not deepspeed.comm.is_initialized():  # of Ray Train's workers: it takes over torch's process group
        load_cpu_kernels()
    engine, *_ = deepspeed.initialize(
        model=module,
        model_parameters=[parameter for parameter in module.parameters() if parameter.requires_grad],
        config=deepspeed_config(config, learning_rate, num_ranks),
        lr_scheduler=schedule,
        dist_init_required=False,
    )
    if config.zero_stage == 0 and config.dtype == "bfloat16":
        # DeepSpeed allocates Adam's moments by a step without gradients, which the bias correction would count: the
        # first real step would be 0.73 of the learning rate (findings/deepspeed_bf16_first_step.sh).
        for state in engine.optimizer.optimizer.state.values():
            state["step"].zero_()
    forget_shared_buffers()
    return engine


def backward(engine: Any, loss: torch.Tensor) -> None:
    """Add a micro-batch's gradients in float32: ZeRO-2 adds them up in the policy's dtype whatever is configured."""
    engine.backward(loss, scale_wrt_gas=False)
    accumulated = getattr(engine.optimizer, "all_grad_tensors", {})
    for group, gradients in accumulated.items():
        if gradients is not None:
            accumulated[group] = [gradient.float() for gradient in gradients]


def whole_parameters(
    module: torch.nn.Module, zero_stage: int, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over full parameters, adapters merged, copied to `dtype`; a collective: all ranks iterate in lockstep."""
    import deepspeed

    for name, parameter, layer in named_weights(module):
        with ExitStack() as gathered:
            for part in parts(parameter, layer):  # one by one: several in one call were sometimes corrupted on CPU
                gathered.enter_context(on_device(part, device))
                gathered.enter_context(deepspeed.zero.GatheredParameters([part], enabled=zero_stage == 3))
            yield name, merged(parameter, layer).to(dtype, copy=True)


@contextmanager
def on_device(parameter: torch.nn.Parameter, device: torch.device) -> Iterator[None]:
    """Bring a parameter, or a rank's shard of it, to `device` for as long as it is read."""
    shard = getattr(parameter, "ds_tensor", parameter)
    rest = shard.data
    shard.data = rest.to(device)
    try:
        yield
    finally:
        shard.data = rest


def gathered_on(keep: bool, weights: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """All weights in host memory where `keep`, else none: the other ranks gather along and let each one go."""
    state = {}
    for name, tensor in weights:
        if keep:
            state[name] = tensor.cpu()
    return state
