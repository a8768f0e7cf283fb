#!/usr/bin/env bash
# A Ray cluster inside a Slurm allocation, and the pipeline on it. From the repository's folder, on a file system
# that all nodes share, after `make install` (or with your own environment's folder as VENV):
#
#   sbatch --nodes 2 --gpus-per-node 4 cluster/slurm.sh --recipe mine.yaml --run-dir /shared/runs/mine
#
# Flags are those of jobs/pipeline.py; another entry point: sbatch --export=ALL,JOB=jobs/grade.py ... It ends with
# the job's own exit status. Submitted again, or requeued after a preemption, the run goes on where it stopped.
# Judges' keys come from the environment that sbatch hands on (export OPENAI_API_KEY=... before).
#SBATCH --job-name=alpagasus
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=alpagasus-%j.log
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch}"
PATH="$(realpath "${VENV:-.venv}/bin"):$PATH"
export PATH RAY_USAGE_STATS_ENABLED=0
job="${JOB:-jobs/pipeline.py}"
nodes_within_s="${NODES_WITHIN_S:-300}"

# Ports of this job's own, as another user's Ray may be on a node that is shared after all.
base=$((20000 + SLURM_JOB_ID % 1000 * 10))
gcs_port=$base dashboard_port=$((base + 1)) client_port=$((base + 2)) agent_port=$((base + 3))

# The token never stands in a command line, in a log or in what Slurm keeps of a job.
umask 077
secrets="$(mktemp -d "$HOME/.alpagasus-slurm-$SLURM_JOB_ID.XXXXXX")"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$secrets/auth_token"
unset RAY_AUTH_TOKEN RAY_ADDRESS
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
umask 022

steps=()
# shellcheck disable=SC2329  # the trap below calls it
end() {
  trap - EXIT
  trap '' TERM INT
  if ((${#steps[@]})); then
    kill -TERM "${steps[@]}" 2> /dev/null || true
    wait "${steps[@]}" 2> /dev/null || true
  fi
  rm -rf "$secrets"
}
trap end EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

start_ray() { # srun's flags, --, ray start's flags
  local on=()
  while [[ "$1" != -- ]]; do on+=("$1") && shift; done
  shift
  srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" "${on[@]}" \
    ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" --dashboard-agent-listen-port="$agent_port" "$@" &
  steps+=("$!")
}

# This script runs on the allocation's first node.
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
head="${head%%$'\n'*}"
head_ip="$(hostname --ip-address)"
head_ip="${head_ip%% *}"
address="$head_ip:$gcs_port" dashboard="http://$head_ip:$dashboard_port"
start_ray --nodes=1 --ntasks=1 --nodelist="$head" -- --head --node-ip-address="$head_ip" --port="$gcs_port" \
  --dashboard-host="$head_ip" --dashboard-port="$dashboard_port" --ray-client-server-port="$client_port"

wait_for_nodes() {
  python - "$address" "$1" "$nodes_within_s" << 'PYTHON'
import logging, sys, time
import ray

address, wanted, within_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
until_s, there = time.monotonic() + within_s, 0
while there < wanted:
    try:
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        there = sum(node["Alive"] for node in ray.nodes())
    except ConnectionError:
        pass  # the head is not up yet
    if time.monotonic() > until_s:
        sys.exit(f"slurm.sh: {there} of {wanted} nodes came up within {within_s:g} s: see above what Ray says")
    time.sleep(0.5)
PYTHON
}
wait_for_nodes 1
workers=$((SLURM_JOB_NUM_NODES - 1))
if ((workers)); then
  start_ray --nodes="$workers" --ntasks="$workers" --exclude="$head" -- --address="$address"
  wait_for_nodes "$SLURM_JOB_NUM_NODES"
fi

# A node that has just come up takes jobs some seconds later.
submission="slurm-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"
submit=(ray job submit --address "$dashboard" --submission-id "$submission" --working-dir . --no-wait)
for attempt in {1..30}; do
  if said="$("${submit[@]}" -- python "$job" "$@" 2>&1)"; then break; fi
  if [[ "$said" != *"No available agent"* || "$attempt" == 30 ]]; then
    printf '%s\n' "$said" >&2
    exit 1
  fi
  sleep 2
done

# In the background, as a shell does not hear signals while a command is in front of it.
ray job logs --address "$dashboard" --follow "$submission" &
steps+=("$!")
wait "$!" || true
code="$(python - "$dashboard" "$submission" << 'PYTHON'
import sys, time
from ray.job_submission import JobSubmissionClient

client = JobSubmissionClient(sys.argv[1])
while not (job := client.get_job_info(sys.argv[2])).status.is_terminal():
    time.sleep(0.5)
print(0 if job.status == "SUCCEEDED" else job.driver_exit_code or 1)
PYTHON
)"
exit "$code"
