#!/usr/bin/env bash
# safetensors 0.8.0: save_file writes into a file with a name of its own (.tmp and six characters) in the same folder and
# renames it at the end; 0.5.3 wrote under the file's own name. Whoever lists the folder meanwhile, as one rank of several
# does that hashes what it wrote, sees a name that is gone a moment later. rapo_ray therefore writes the bytes of `save`
# under the file's own name where other ranks list (rapo_ray/trainer/files.py, tests/unit/test_save_beside.py).
# Installs safetensors and numpy into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/names.py" <<'PY'
import os
import sys
import tempfile
import threading

import numpy
import safetensors
from safetensors.numpy import save_file

folder, seen, finished = tempfile.mkdtemp(dir=sys.argv[1]), set(), threading.Event()
tensors = {"weight": numpy.zeros(1 << 24, dtype=numpy.uint8)}


def write():
    for _ in range(20):
        save_file(tensors, os.path.join(folder, "model.safetensors"))
    finished.set()


writer = threading.Thread(target=write)
writer.start()
while not finished.is_set():
    seen.update(os.listdir(folder))
writer.join()
others = sorted(seen - {"model.safetensors"})
print(f"safetensors {safetensors.__version__}: {len(others)} other names seen", others[:1])
sys.exit(0 if bool(others) == (sys.argv[2] == "others") else 1)
PY
for case in "0.8.0 others" "0.5.3 none"; do
  read -r version expected <<<"$case"
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check "safetensors==$version" numpy==2.2.6 2>"$work/log" \
    || { cat "$work/log"; exit 1; }
  "$work/$version/bin/python" "$work/names.py" "$work" "$expected" || { echo "the behaviour has changed"; exit 1; }
done
echo "as described"
