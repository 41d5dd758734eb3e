"""LoRA on a policy: adapters that alone are trained, and the weights with the adapters in them (Hu et al. 2021)."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def add_lora(model: Any, rank: int, alpha: int) -> None:
    """Put adapters on every linear layer but the vocabulary head, in place, and freeze all else."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def named_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Any]]:
    """Every weight under the name that it has without adapters, with the layer that adapts it, or None."""
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    adapted = {id(layer.base_layer.weight): layer for layer in layers}
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter, adapted.get(id(parameter))


def parts(parameter: nn.Parameter, layer: Any) -> list[nn.Parameter]:
    """What the merged weight is made of."""
    return [parameter] if layer is None else [parameter, *layer.lora_A.parameters(), *layer.lora_B.parameters()]


def merged(parameter: nn.Parameter, layer: Any) -> Any:
    """The weight with its adapter added, in float64, so that what is sent and what checks it round alike."""
    weight = parameter.detach()
    if layer is None:
        return weight
    (name,) = layer.active_adapters
    down, up = (part[name].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    return weight.double() + layer.scaling[name] * (up @ down)
