#!/usr/bin/env bash
# One training run on a Slurm cluster, one task per GPU; queues itself again when it is stopped.
#
# Usage: sbatch --nodes=2 launch/slurm.sh train --config C --workdir W [options]
#        launch/slurm.sh --dry-run VERB [options]
#
# Knobs (environment):
#   VENV   virtual environment with the package and its `cuda` extra (default: .venv)
#   CACHE  folder for compiled programs, shared by all nodes         (default: ~/.cache/ffa-sora)
#
# Give time, partition and GPUs per node to sbatch; what stands below are defaults.
#SBATCH --job-name=ffa-sora
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-task=1
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
case "${1:-}" in -h | --help | "") sed -n '2,/^#SBATCH/{/^#SBATCH/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac

run=()
if [ "$1" = "--dry-run" ]; then
  run=(echo)
  shift
fi
verb=$1
shift
join=()
if [ "$verb" = train ]; then
  join=(--distributed)
fi
export JAX_COMPILATION_CACHE_DIR=${CACHE:-$HOME/.cache/ffa-sora}
code=0
"${run[@]}" srun --kill-on-bad-exit=1 "${VENV:-.venv}/bin/python" -m ffa_sora_jax "$verb" "${join[@]}" "$@" ||
  code=$?
if [ "$code" = 75 ]; then # saved and stopped early
  "${run[@]}" scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
