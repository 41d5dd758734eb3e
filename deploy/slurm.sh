#!/usr/bin/env bash
# Trains on a Slurm allocation of its own, from the repository's root on a file system that all nodes share:
#   sbatch deploy/slurm.sh --config paper out=/shared/runs
# `scancel --batch --signal=TERM JOB`, or the time limit, ends it cleanly; the same command resumes at the last checkpoint.
#SBATCH --job-name=rapo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --output=%x-%j.log
set -euo pipefail

cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"
nodes=$SLURM_JOB_NUM_NODES
head=${SLURMD_NODENAME:?runs under sbatch}
head_ip=$(hostname -I | cut -d' ' -f1)
export RAY_ADDRESS=$head_ip:6379

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.rapo-token-$SLURM_JOB_ID # the path travels to the nodes, not the token
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")

started=()
driver=
# shellcheck disable=SC2329  # the trap calls it
cleanup() {
  trap - TERM
  for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  wait
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap cleanup EXIT
trap '[ -z "$driver" ] && exit 143; kill -TERM "$driver"' TERM

wait_for_nodes() {
  local here=0
  for _ in $(seq 60); do
    here=$(timeout 30 python -c \
      'import ray; ray.init(log_to_driver=False); print(sum(node["Alive"] for node in ray.nodes()))' 2>/dev/null) || here=0
    [ "$here" -ge "$1" ] && return
    for pid in "${started[@]}"; do kill -0 "$pid" 2>/dev/null || break 2; done
    echo "waiting for Ray on $1 nodes, $here so far"
    sleep 5
  done
  echo "error: Ray came up on $here of $1 nodes: see what srun says above" >&2
  exit 1
}

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --block --node-ip-address="$head_ip" --port=6379 --dashboard-host=127.0.0.1 &
started+=($!)
wait_for_nodes 1
if [ "$nodes" -gt 1 ]; then
  srun --overlap --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head" \
    ray start --address="$RAY_ADDRESS" --block &
  started+=($!)
  wait_for_nodes "$nodes"
fi

python -m rapo_ray.train "$@" &
driver=$!
status=0
wait "$driver" || status=$?
if kill -0 "$driver" 2>/dev/null; then # a signal ended the wait, not the run
  status=0
  wait "$driver" || status=$?
fi
exit "$status"
