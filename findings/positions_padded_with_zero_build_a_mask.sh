#!/usr/bin/env bash
# transformers 5.15.0: right-padded rows without an attention mask get a dense mask [rows, 1, length, length] where their
# position_ids are padded with 0, and none where the positions count on behind the row: a position that does not go up is
# read as the start of a packed sequence. With the mask, scaled_dot_product_attention cannot take its flash kernel, and the
# mask alone is rows x length^2 bytes. rapo_ray counts on (rapo_ray/trainer/model.py, tests/cluster/test_gpu_faults.py).
# Installs torch and transformers into a temporary folder; needs no network beyond the package index.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.15.0 2>"$work/log" || { cat "$work/log"; exit 1; }
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import LlamaConfig
from transformers.masking_utils import create_causal_mask

print(f"transformers {transformers.__version__}, torch {torch.__version__}")
config = LlamaConfig(hidden_size=64, num_attention_heads=4, attn_implementation="sdpa")
LENGTHS, WIDTH = (40, 30), 40


def mask(positions):
    return create_causal_mask(
        config=config,
        inputs_embeds=torch.zeros(len(LENGTHS), WIDTH, 64),
        attention_mask=None,
        past_key_values=None,
        position_ids=torch.tensor(positions),
    )


zeros = mask([[*range(n), *[0] * (WIDTH - n)] for n in LENGTHS])
counted = mask([list(range(WIDTH)) for _ in LENGTHS])
print("padded with 0:      ", "no mask" if zeros is None else f"a mask {tuple(zeros.shape)} of {zeros.dtype}")
print("counted on:         ", "no mask" if counted is None else f"a mask {tuple(counted.shape)} of {counted.dtype}")
assert zeros is not None and tuple(zeros.shape) == (2, 1, 40, 40), "the behaviour has changed"
assert counted is None, "the behaviour has changed"
PY
echo "as described"
