#!/usr/bin/env bash
# Makes the network of FVD-phantom that ships with the package: phantoms, training, export.
#
# Usage: launch/make_features.sh [OUT]          (OUT defaults to runs/features64)
#
# Every step resumes: after a kill, the same command goes on where it stopped. The folder is
# OUT/model; to ship it, copy its files to ffa_sora_jax/assets/phantom_features and measure again
# (python -m benchmarks.phantom_controls --count 160 --vae). Knobs:
#
#   EXAMS    phantom exams over all splits      CONFIG   config of the run
#   SEED     of the population                  DTYPE    in which weights are stored
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

OUT=${1:-runs/features64}
EXAMS=${EXAMS:-3000}
SEED=${SEED:-77310}
CONFIG=${CONFIG:-configs/phantom_features.py}
DTYPE=${DTYPE:-float16}

# A function, so that bash has read the whole script before the work begins.
main() {
  ffa-sora prepare --dataset phantom/64 --data-dir "$OUT/data" --num-exams "$EXAMS" --seed "$SEED"
  ffa-sora train --config "$CONFIG" --workdir "$OUT/run" --quiet \
    --config.data.data_dir="$OUT/data"
  ffa-sora export --workdir "$OUT/run" --output "$OUT/model" --dtype "$DTYPE"
}

main
