"""The prepared check of a bare machine with one GPU, in stages that each say what ran or why not.

    python -m benchmarks.gpu_check --out gpu-check.json          # `make gpu-check`; ten minutes at most
    python -m benchmarks.gpu_check --device cpu --shapes tiny --tokens 48

Models are random, of published shapes. `core` needs torch and transformers alone (peft for LoRA): the trainer's update
beside the usual one over padded rows and full logits. `policy` needs DeepSpeed: a `PolicyRank` on one card. `engine`
needs vLLM: a `VllmEngine` with CUDA graphs. None needs Ray. Each stage runs in a process of its own, and the JSON file
is written after every case.
"""

from benchmarks.gpu_check.runner import main

__all__ = ["main"]
