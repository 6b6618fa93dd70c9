#!/usr/bin/env bash
# Judges JAX on CUDA against PyTorch on CUDA, every network, and times both. For a cluster with SLURM:
#   sbatch scripts/parity_cuda.sh            or, on a machine with a card:  scripts/parity_cuda.sh
# Words after it go to the door: sbatch scripts/parity_cuda.sh --network dme_net --full
#SBATCH --job-name=jaxstroke-parity
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --output=parity-%j.log
set -euo pipefail
# Under SLURM the script is a copy elsewhere; the job starts where it was submitted from.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
if [ ! -f scripts/setup ]; then
  echo "error: submit this from the checkout of jaxstroke: cd there, then sbatch scripts/parity_cuda.sh" >&2
  exit 2
fi
scripts/setup torch cuda
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no CUDA card on this machine"
exec .venv/bin/python -m jaxstroke.parity --device cuda "$@"
