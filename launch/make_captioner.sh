#!/usr/bin/env bash
# Makes the report generator that ships with the package, from nothing: phantoms, training, export.
#
# Usage: launch/make_captioner.sh [OUT]          (OUT defaults to runs/captioner64)
#
# Every step resumes: after a kill, the same command goes on where it stopped. The folder is
# OUT/model; to ship it, replace the folder ffa_sora_jax/assets/captioner64 by it. Knobs:
#
#   EXAMS    phantom exams over all splits      CONFIG   config of the run
#   DTYPE    in which weights are stored        CAPTIONER_ARGS  more options of the run
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

OUT=${1:-runs/captioner64}
EXAMS=${EXAMS:-2000}
CONFIG=${CONFIG:-configs/captioner_phantom.py}
CAPTIONER_ARGS=${CAPTIONER_ARGS:-}
DTYPE=${DTYPE:-float16}

# A function, so that bash has read the whole script before the work begins.
main() {
  ffa-sora prepare --dataset phantom/64_full --data-dir "$OUT/data" --num-exams "$EXAMS"
  ffa-sora train --config "$CONFIG" --workdir "$OUT/run" --quiet \
    --config.data.data_dir="$OUT/data" $CAPTIONER_ARGS
  if [ ! -f "$OUT/model/config.json" ]; then
    ffa-sora export --workdir "$OUT/run" --output "$OUT/model" --dtype "$DTYPE"
  fi
  ffa-sora report phantom/64_full --data-dir "$OUT/data" --weights "$OUT/model" \
    --output "$OUT/test-reports.csv"
}

main
