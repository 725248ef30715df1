#!/usr/bin/env bash
# The whole path in one go: data, VAE, latents, diffusion transformer, export, a video.
#
# Usage: launch/tour.sh [OUT]          (OUT defaults to out/tour)
#
# Every step resumes: after a kill, the same command goes on where it stopped. By default all is
# small enough for a laptop; launch/make_weights.sh sets these knobs to make the weights that ship:
#
#   EXAMS       phantom exams over all splits         RES         pixels per side
#   VAE_CONFIG  config of the VAE run                 T2V_CONFIG  config of the text-to-video run
#   VAE_ARGS    more options of that run              T2V_ARGS    more options of that run
#   DTYPE       in which weights are stored           REPORT      the report of the video
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

OUT=${1:-out/tour}
EXAMS=${EXAMS:-80}
RES=${RES:-64}
VAE_CONFIG=${VAE_CONFIG:-configs/vae_phantom.py:runlocal}
T2V_CONFIG=${T2V_CONFIG:-configs/t2v_phantom.py:runlocal}
VAE_ARGS=${VAE_ARGS:-}
T2V_ARGS=${T2V_ARGS:-}
DTYPE=${DTYPE:-float32}
REPORT=${REPORT:-"Left eye FFA: 1. The arterial filling and venous return time were normal."}

step() { printf '\n== %s (%s s since the start)\n' "$*" "$SECONDS"; }

# A function, so that bash has read the whole script before hours of work begin.
main() {
  step "1 of 7: $EXAMS exams of $RES px with their reports"
  ffa-sora prepare --dataset "phantom/${RES}_full" --data-dir "$OUT/data" --num-exams "$EXAMS"
  ffa-sora inspect --dataset "phantom/${RES}_full" --data-dir "$OUT/data" --sheets "$OUT/data-sheets"

  step "2 of 7: the video autoencoder"
  ffa-sora train --config "$VAE_CONFIG" --workdir "$OUT/vae" --quiet \
    --config.data.data_dir="$OUT/data" $VAE_ARGS
  ffa-sora export --workdir "$OUT/vae" --output "$OUT/vae-model"

  step "3 of 7: the latents of every clip, once"
  ffa-sora prepare latents --dataset "phantom/${RES}_full" --data-dir "$OUT/data" \
    --vae "$OUT/vae-model" --output "$OUT/latents" --mirror

  step "4 of 7: the diffusion transformer and its text encoder"
  ffa-sora train --config "$T2V_CONFIG" --workdir "$OUT/t2v" --quiet \
    --config.data.data_dir="$OUT/data" --config.data.latents="$OUT/latents" \
    --config.vae.dir="$OUT/vae-model" $T2V_ARGS
  ffa-sora status --workdir "$OUT/t2v"

  step "5 of 7: one folder with everything that sampling needs"
  if [ ! -f "$OUT/model/model_index.json" ]; then
    ffa-sora export --workdir "$OUT/t2v" --output "$OUT/model" --dtype "$DTYPE"
  fi

  step "6 of 7: a video"
  ffa-sora sample --report "$REPORT" --weights "$OUT/model" --output "$OUT/samples"

  step "7 of 7: done"
  echo "data sheets:   $OUT/data-sheets"
  echo "training log:  $OUT/t2v (tensorboard --logdir $OUT)"
  echo "model:         $OUT/model"
  echo "samples:       $OUT/samples"
}

main
