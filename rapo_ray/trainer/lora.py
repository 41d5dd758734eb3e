"""LoRA on a policy: only the adapters are trained, and weights are published merged (Hu et al. 2021)."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def add_lora(model: Any, rank: int, alpha: int) -> None:
    """Add adapters to every linear layer except the LM head, in place, and freeze everything else."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def named_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Any]]:
    """Iterate over base weights under their names without adapters, each with its LoRA layer, or None."""
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    adapted = {id(layer.base_layer.weight): layer for layer in layers}
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter, adapted.get(id(parameter))


def parts(parameter: nn.Parameter, layer: Any) -> list[nn.Parameter]:
    """Parameters that a merged weight is computed from: the base weight and its adapters."""
    return [parameter] if layer is None else [parameter, *layer.lora_A.parameters(), *layer.lora_B.parameters()]


def merged(parameter: nn.Parameter, layer: Any) -> Any:
    """Weight with its adapter merged in, in float64, so that weights sent and weights checked round the same way."""
    weight = parameter.detach()
    if layer is None:
        return weight
    (name,) = layer.active_adapters
    down, up = (part[name].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    return weight.double() + layer.scaling[name] * (up @ down)
