#!/usr/bin/env bash
# Ray Train 2.60.0: fit() in the main thread puts a handler of its own in the place of Python's for SIGINT and leaves it there
# when it returns. Ctrl-C after that asks the finished controller to abort instead of raising KeyboardInterrupt: a driver that
# goes on after a fit (here: online rounds after a warm-up) is not interrupted where it waits, and may end with status 0.
# rapo_ray therefore fits in another thread (actors/sft.py, tests/e2e/test_ends.py).
# Installs Ray into a temporary folder and starts a local cluster of one CPU.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "ray[train]==2.60.0" 2>"$work/log" || { cat "$work/log"; exit 1; }
cat >"$work/fit.py" <<'PY'
import signal
import sys

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
before = signal.getsignal(signal.SIGINT)
trainer = DataParallelTrainer(
    lambda: ray.train.report({"loss": 0.0}),
    scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
    run_config=RunConfig(name="one", storage_path=sys.argv[1]),
)
trainer.fit()
after = signal.getsignal(signal.SIGINT)
print(f"ray {ray.__version__}: before {before.__name__}, after {getattr(after, '__qualname__', after)}")
sys.exit(0 if before is signal.default_int_handler and "sigint_handler" in getattr(after, "__qualname__", "") else 1)
PY
"$work/venv/bin/python" "$work/fit.py" "$work/runs" 2>"$work/log" || { tail -20 "$work/log"; echo "the behaviour has changed"; exit 1; }
echo "as described"
