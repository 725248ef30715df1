# Every target sets up what it needs by itself, in a virtual environment of its own.
#
#   make demo     report -> video, from the weights that ship with the package
#   make tour     data, training, export and sampling from scratch, small, on any laptop
#   make test     the tests            make lint     formatting, style, types
#   make bench    speed and memory beside PyTorch (installs torch)
#   make parity   the tests that also need PyTorch (installs torch)
#   make weights  trains the weights that ship (hours)
#
# Variables: PYTHON (3.11 or later), VENV, OUT, REPORT, SEED, STEPS, PYTEST_ARGS.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
  >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV ?= .venv
OUT ?= out
SEED ?= 0
STEPS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# The branch retinal vein occlusion example of the paper's Figure 2.
REPORT ?= branch retinal vein occlusion,retinal vein occlusion,tortuous,non-perfusion \
  areas,microaneurysm,leakage,arteriovenous shunting,Left eye FFA: 1. Retinal artery diameter is \
  narrowed, with the formation of temporal branch arteriovenous pressure imprint, slow flow of \
  temporal branch venous reflux, and visible venous anastomosis on the temporal side of the \
  macula; small blood vessels in the area are covered by the temporal branch vein are dilated \
  and leaky, with scattered microaneurysm; large areas of non-perfusion forming, affecting the \
  temporal upper quadrant of the macula. 2. No obvious abnormalities were observed in the \
  inferior and nasal mid-periphery. 3. No obvious abnormalities were observed in the \
  fluorescence of the optic disc.
export REPORT

.PHONY: help install demo tour weights test lint format bench parity clean

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv and pip was found. Install \
	one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12" \
	>&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: setup.py | $(BIN)/python
	@echo "installing ffa-sora-jax[$*] into $(VENV) (minutes on first use)"
	$(PIP) --editable '.[$*]'
	@touch $@

# Pinned, and before the rest: another torch may bring gigabytes of CUDA along.
$(VENV)/.installed-parity: $(VENV)/.installed-dev
	$(PIP) 'torch==2.13.0'
	$(PIP) --editable '.[parity]'
	@touch $@

install: $(VENV)/.installed-video

demo: $(VENV)/.installed-video
	$(BIN)/ffa-sora sample --report "$$REPORT" --seed $(SEED) \
	  $(if $(STEPS),--num-steps $(STEPS)) --output $(OUT)/demo

tour: $(VENV)/.installed-video
	PATH="$(abspath $(BIN)):$$PATH" launch/tour.sh $(OUT)/tour

weights: $(VENV)/.installed-video
	PATH="$(abspath $(BIN)):$$PATH" launch/make_weights.sh runs/phantom64
	PATH="$(abspath $(BIN)):$$PATH" launch/make_captioner.sh runs/captioner64
	PATH="$(abspath $(BIN)):$$PATH" launch/make_features.sh runs/features64

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-parity
	$(BIN)/python -m benchmarks

parity: $(VENV)/.installed-parity
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/models tests/convert \
	  tests/diffusion tests/benchmarks

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
