#!/usr/bin/env bash
# DeepSpeed 0.19.6, bf16 with `data_types.grad_accum_dtype: fp32`: ZeRO-2 adds up the gradients of micro-batches in bf16 all the
# same, where ZeRO-1 and ZeRO-3 do it in float32. A thousand micro-batches whose gradient is 1 make 1000 there, and 256 under
# ZeRO-2: from 256 on, bf16 has no odd numbers. Nothing is said, and the engine reports float32 as its dtype of accumulation. Long
# rows mean many micro-batches a step, so RLHF meets it. rapo_ray keeps the sum in float32 itself (`backward` in
# rapo_ray/trainer/deepspeed_setup.py, tests/cluster/test_zero.py).
# Installs torch and DeepSpeed into a temporary folder; needs a C++ compiler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
DS_BUILD_OPS=0 "$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 deepspeed==0.19.6 2>"$work/log" \
  || { cat "$work/log"; exit 1; }
cat >"$work/sum.py" <<'PY'
import os
import sys

os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2])
os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
import torch

STEPS = 1000
model = torch.nn.Linear(64, 1, bias=False)
engine, *_ = deepspeed.initialize(
    model=model,
    model_parameters=model.parameters(),
    config={
        "train_batch_size": STEPS,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": STEPS,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": int(sys.argv[1])},
        "data_types": {"grad_accum_dtype": "fp32"},
        "gradient_clipping": 1e9,
        "steps_per_print": 2**31,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.0, "torch_adam": True}},
    },
)
for _ in range(STEPS):
    out = engine(torch.ones(1, 64, dtype=torch.bfloat16))
    engine.backward(STEPS * out.sum())  # DeepSpeed divides by the number of micro-batches
    engine.step()
print("RESULT", round(float(engine.get_global_grad_norm()) / 8))  # 64 gradients alike
PY
"$work/venv/bin/pip" list 2>/dev/null | grep -iE '^(torch|deepspeed) '
seen=""
for stage in 1 2 3; do
  result=$("$work/venv/bin/python" "$work/sum.py" "$stage" "$((20000 + RANDOM % 20000))" 2>"$work/log" | sed -n 's/^RESULT //p')
  echo "stage $stage, grad_accum_dtype fp32: the sum of 1000 gradients of 1 is $result"
  seen+="$result "
done
[ "$seen" = "1000 256 1000 " ] || { echo "the behaviour has changed"; exit 1; }
echo "as described"
