#!/usr/bin/env bash
# DeepSpeed 0.19.6, bf16 without ZeRO (stage 0): the first optimizer step is 0.73 of the learning rate, where ZeRO 1 to 3
# and float32 give the whole. Its bf16 wrapper allocates Adam's moments by a step with zero gradients; Adam counts it, so
# the bias correction of the first real step is that of the second: (0.1 / 0.19) / sqrt(0.05 / 0.0975) = 0.735 with betas
# 0.9 and 0.95. The share goes to one over the next twenty steps or so; short runs and warm-ups feel it, and two machines
# of which one computes in float32 part ways. rapo_ray sets the count back (rapo_ray/trainer/deepspeed_setup.py,
# tests/cluster/test_zero.py).
# Installs torch and DeepSpeed into a temporary folder; needs a C++ compiler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
DS_BUILD_OPS=0 "$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 deepspeed==0.19.6 2>"$work/log" \
  || { cat "$work/log"; exit 1; }
cat >"$work/step.py" <<'PY'
import os
import sys

os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[3])
os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
import torch

stage, bf16 = int(sys.argv[1]), sys.argv[2] == "bf16"
torch.manual_seed(0)
model = torch.nn.Linear(256, 256, bias=False)
before = model.weight.detach().clone()
engine, *_ = deepspeed.initialize(
    model=model,
    model_parameters=model.parameters(),
    config={
        "train_batch_size": 1,
        "bf16": {"enabled": bf16},
        "zero_optimization": {"stage": stage},
        "steps_per_print": 2**31,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.01, "betas": [0.9, 0.95], "weight_decay": 0.0, "torch_adam": True}},
    },
)
out = engine(torch.randn(32, 256, dtype=torch.bfloat16 if bf16 else torch.float32))
engine.backward(out.float().square().mean())
engine.step()
moved = (engine.module.weight.detach().float() - before).abs().mean() / 0.01
print(f"RESULT {moved:.3f}")
PY
first_step() {
  "$work/venv/bin/python" "$work/step.py" "$1" "$2" "$((20000 + RANDOM % 20000))" 2>"$work/log" | sed -n 's/^RESULT //p'
}
"$work/venv/bin/pip" list 2>/dev/null | grep -iE '^(torch|deepspeed) '
plain=$(first_step 0 float32) bf16=$(first_step 0 bf16) zero=$(first_step 1 bf16)
echo "mean size of the first step, in learning rates: float32 $plain, bf16 at stage 0 $bf16, bf16 at stage 1 $zero"
awk -v plain="$plain" -v bf16="$bf16" -v zero="$zero" \
  'BEGIN { exit !(plain > 0.97 && zero > 0.95 && bf16 > 0.70 && bf16 < 0.77) }' || { echo "the behaviour has changed"; exit 1; }
echo "as described"
