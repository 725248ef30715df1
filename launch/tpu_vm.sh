#!/usr/bin/env bash
# Makes a Cloud TPU VM or pod slice, copies the code, runs a verb on all its workers, deletes it.
#
# Usage: launch/tpu_vm.sh [--dry-run] create
#        launch/tpu_vm.sh [--dry-run] run VERB [options]
#        launch/tpu_vm.sh [--dry-run] delete
#
# `run` starts the verb again when it was stopped early (exit code 75) or the connection broke, so a
# preempted run goes on; bad input (exit code 2) ends it. Workdir and data must lie on storage that
# all workers see, such as a bucket mounted with gcsfuse.
#
# Knobs (environment):
#   NAME      name of the TPU       (default: ffa-sora)
#   ZONE      zone                  (default: that of gcloud's configuration)
#   TYPE      accelerator type      (default: v5litepod-8)
#   RUNTIME   software version      (default: v2-alpha-tpuv5-lite)
#   SPOT      1: cheaper and preemptible
#   RESTARTS  how often `run` starts again at most (default: 20)
set -euo pipefail
case "${1:-}" in -h | --help | "") sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

run=()
if [ "$1" = "--dry-run" ]; then
  run=(echo)
  shift
fi
action=$1
shift
NAME=${NAME:-ffa-sora}
tpu=(gcloud compute tpus tpu-vm)
zone=()
if [ -n "${ZONE:-}" ]; then
  zone=("--zone=$ZONE")
fi

create() {
  local spot=()
  if [ "${SPOT:-0}" = 1 ]; then
    spot=(--spot)
  fi
  "${run[@]}" "${tpu[@]}" create "$NAME" "${zone[@]}" "--accelerator-type=${TYPE:-v5litepod-8}" \
    "--version=${RUNTIME:-v2-alpha-tpuv5-lite}" "${spot[@]}"
  "${run[@]}" "${tpu[@]}" scp --recurse "${zone[@]}" --worker=all . "$NAME:ffa-sora-jax"
}

run_verb() {
  local command code tries=0
  command="cd ffa-sora-jax && launch/tpu_pod.sh $(printf '%q ' "$@")"
  while true; do
    code=0
    "${run[@]}" "${tpu[@]}" ssh "$NAME" "${zone[@]}" --worker=all "--command=$command" || code=$?
    tries=$((tries + 1))
    if [ "$code" = 0 ] || [ "$code" = 2 ] || [ "$tries" -gt "${RESTARTS:-20}" ]; then
      exit "$code"
    fi
    echo "stopped with exit code $code; start $((tries + 1)) in 30 s" >&2
    sleep 30
  done
}

case "$action" in
  create) create ;;
  run) run_verb "$@" ;;
  delete) "${run[@]}" "${tpu[@]}" delete "$NAME" "${zone[@]}" --quiet ;;
  *) echo "Unknown action $action. Allowed: create, run, delete." >&2; exit 2 ;;
esac
