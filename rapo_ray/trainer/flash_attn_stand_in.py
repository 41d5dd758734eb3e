"""Stand-ins for the flash-attn helpers that `openrlhf.models` imports at import time.

flash-attn does not build without CUDA, and openrlhf's objectives do not use it. Where the real package is installed,
nothing is replaced. An open upstream change does the same (OpenRLHF pull request 1302).
"""

import importlib.machinery
import importlib.util
import sys
import types


def provide() -> None:
    """Register the stand-in modules unless flash-attn is installed."""
    if "flash_attn" in sys.modules or importlib.util.find_spec("flash_attn") is not None:
        return
    from transformers import modeling_flash_attention_utils as helpers

    package = _module("flash_attn", is_package=True)
    padding = _module("flash_attn.bert_padding")
    padding.__dict__.update(
        index_first_axis=helpers._index_first_axis,
        pad_input=helpers._pad_input,
        unpad_input=helpers._unpad_input,
        rearrange=_needs_flash_attn,
    )
    utils = _module("flash_attn.utils", is_package=True)
    distributed = _module("flash_attn.utils.distributed")
    distributed.__dict__.update(all_gather=_needs_flash_attn)
    for module in (package, padding, utils, distributed):
        sys.modules[module.__name__] = module


def _module(name: str, is_package: bool = False) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=is_package)
    if is_package:
        module.__path__ = []
    return module


def _needs_flash_attn(*_args: object, **_kwargs: object) -> None:
    raise NotImplementedError("this path of openrlhf needs flash-attn, which is not installed")
