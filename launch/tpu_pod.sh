#!/usr/bin/env bash
# One verb on every worker of a TPU VM or pod. Start it on all workers at once:
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command="cd SHARED/ffa-sora-jax && launch/tpu_pod.sh train --config C --workdir W"
#
# Usage: launch/tpu_pod.sh [--dry-run] VERB [options]
#
# Knobs (environment):
#   VENV    virtual environment of this worker (default: ~/ffa-sora-venv; not on the shared disk)
#   PYTHON  interpreter to make it with        (default: python3)
#
# Only `train` joins the processes of a pod; other verbs run alone, so give them their --shard.
set -euo pipefail
case "${1:-}" in -h | --help | "") sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
VENV=${VENV:-$HOME/ffa-sora-venv}

run=()
if [ "$1" = "--dry-run" ]; then
  run=(echo)
  shift
fi
verb=$1
shift
if [ ! -f "$VENV/.installed-tpu" ]; then
  "${run[@]}" "${PYTHON:-python3}" -m venv "$VENV"
  # From a copy: workers that build in the shared folder at once would disturb each other. The code
  # that runs is still that of the current folder, which `python -m` looks into first.
  copy=$(mktemp -d)
  "${run[@]}" cp -r setup.py pyproject.toml README.md ffa_sora_jax tfds_ffa configs "$copy"
  "${run[@]}" "$VENV/bin/pip" install --quiet "$copy[tpu]"
  "${run[@]}" rm -rf "$copy"
  "${run[@]}" touch "$VENV/.installed-tpu"
fi
join=()
if [ "$verb" = train ]; then
  join=(--distributed)
fi
"${run[@]}" exec "$VENV/bin/python" -m ffa_sora_jax "$verb" "${join[@]}" "$@"
