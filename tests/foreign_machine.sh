#!/usr/bin/env bash
# Run tests as on a cluster's login node: Slurm, Docker and kubectl are on the path, nvidia-smi finds
# no GPU, and the shell is one that salloc opened, with what launchers, proxies and CUDA leave behind.
#   tests/foreign_machine.sh [pytest's arguments]; a chosen part of the suite without any
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-.venv/bin/python}"

programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
for name in srun sbatch salloc squeue scontrol docker kubectl nvidia-smi; do
  printf '#!/bin/sh\necho "%s was called: $*" >&2\nexit 9\n' "$name" > "$programs/$name"
done
chmod +x "$programs"/*
mkdir "$programs/python"
export PATH="$programs:$PATH" PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$programs/python"

export SLURM_JOB_ID=4242 SLURM_JOB_NAME=alloc SLURM_NTASKS=8 SLURM_NNODES=2 SLURM_NTASKS_PER_NODE=4
export SLURM_JOB_NODELIST='node[01-02]' SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_STEP_NUM_TASKS=1
export WORLD_SIZE=8 RANK=3 MASTER_ADDR=node01 CUDA_VISIBLE_DEVICES=0 HF_HOME="$programs/no-such-folder"
for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; do
  export "$name=http://127.0.0.1:9"  # nothing listens there
done

if [ $# = 0 ]; then
  set -- tests/unit/platform/test_ranks.py tests/unit/platform/test_platform.py tests/unit/launch \
    tests/unit/services/test_openai.py tests/unit/evaluation/judges tests/unit/cli/training/test_train.py \
    tests/unit/training/test_checks.py tests/unit/training/test_session.py
fi
"$python" -m pytest -q "$@"
