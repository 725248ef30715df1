#!/usr/bin/env bash
# Makes the weights that ship with the package, from nothing: the tour at full length.
#
# Usage: launch/make_weights.sh [OUT]          (OUT defaults to runs/phantom64)
#
# Resumes like the tour. The pipeline folder is OUT/model; to ship it, replace the folder
# ffa_sora_jax/assets/phantom64 by it. Knobs: those of launch/tour.sh.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

export EXAMS=${EXAMS:-6000} DTYPE=${DTYPE:-float16}
export VAE_CONFIG=${VAE_CONFIG:-configs/vae_phantom.py}
export T2V_CONFIG=${T2V_CONFIG:-configs/t2v_phantom.py}
exec "$(dirname "$0")/tour.sh" "${1:-runs/phantom64}"
