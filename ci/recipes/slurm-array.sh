#!/usr/bin/env bash
# A measuring plan as a Slurm array: one task per shard, each with records of its own; merge them when all are done.
#   sbatch --array=0-3 ci/recipes/slurm-array.sh RECORDS --config configs/train/lm-tiny-plain.toml --residual rw,rw+lr
#   harness merge RECORDS/shard-* --out RECORDS/all
# RECORDS is a folder that all nodes see; everything behind it goes to `harness measure`. A repeated task resumes on a
# machine of the same fingerprint; on another one it ends with exit code 2: give it --fresh.
#SBATCH --job-name=laurel-measure
#SBATCH --exclusive
#SBATCH --cpus-per-task=2
set -euo pipefail
records=$1
shift
# Array numbers may begin anywhere; shards count from 1.
index=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1))
exec "${HARNESS:-harness}" measure --shard "$index/$SLURM_ARRAY_TASK_COUNT" --out "$records/shard-$index" "$@"
