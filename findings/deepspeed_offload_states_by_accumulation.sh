#!/usr/bin/env bash
# DeepSpeed 0.19.6, bf16 with ZeRO-1: `data_types.grad_accum_dtype` decides whether an engine's states can leave the card. With
# gradients accumulated in bf16 the optimizer is DeepSpeedZeroOptimizer, which has `offload_states`; in float32 it is
# BF16_Optimizer, which has none. ZeRO-2 has it either way. A trainer that takes turns with an inference engine on one card
# meets it the first time it steps aside. rapo_ray therefore asks for ZeRO-2 or 3 with rollout.colocate (rapo_ray/config/run.py, tests/cluster/test_turns.py).
# Installs torch and DeepSpeed into a temporary folder; needs a C++ compiler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
DS_BUILD_OPS=0 "$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 deepspeed==0.19.6 2>"$work/log" \
  || { cat "$work/log"; exit 1; }
cat >"$work/states.py" <<'PY'
import os
import sys

os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[3])
os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
import torch

model = torch.nn.Linear(64, 64, bias=False)
engine, *_ = deepspeed.initialize(
    model=model,
    model_parameters=model.parameters(),
    config={
        "train_batch_size": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": int(sys.argv[1])},
        "data_types": {"grad_accum_dtype": sys.argv[2]},
        "steps_per_print": 2**31,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.01, "torch_adam": True}},
    },
)
print("RESULT", type(engine.optimizer).__name__, hasattr(engine.optimizer, "offload_states"))
PY
"$work/venv/bin/pip" list 2>/dev/null | grep -iE '^(torch|deepspeed) '
seen=""
for case in "1 bf16" "1 fp32" "2 bf16" "2 fp32"; do
  # shellcheck disable=SC2086
  result=$("$work/venv/bin/python" "$work/states.py" $case "$((20000 + RANDOM % 20000))" 2>"$work/log" | sed -n 's/^RESULT //p')
  echo "stage and dtype of accumulated gradients $case: optimizer and whether it has offload_states: $result"
  seen+="$result;"
done
expected="DeepSpeedZeroOptimizer True;BF16_Optimizer False;DeepSpeedZeroOptimizer True;DeepSpeedZeroOptimizer True;"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed"; exit 1; }
echo "as described"
