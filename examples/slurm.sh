#!/usr/bin/env bash
# Elastic pre-training on many nodes under Slurm: stopped at any moment, a run continues with any number of nodes.
#
#   sbatch --nodes 8 examples/slurm.sh --recipe fractaldb-1k --epochs 100
#   scancel JOB; sbatch --nodes 6 examples/slurm.sh --recipe fractaldb-1k --epochs 100
#
# Every process renders its part of one global order, so there is no data to copy to the nodes. The loader's state says
# how many samples of the epoch all processes together have seen: the nodes of the next job see the remaining samples,
# each once. The number of images per step must stay the same, or the learning rate means something else; so the batch
# size per process is that number divided by the number of processes.
#
#SBATCH --job-name=gpurender
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --requeue
set -euo pipefail

global_batch=${GLOBAL_BATCH:-1536}
processes_per_node=${SLURM_GPUS_ON_NODE:-1}
processes=$((SLURM_JOB_NUM_NODES * processes_per_node))
if ((global_batch % processes)); then
    echo "GLOBAL_BATCH=$global_batch must be a multiple of the $processes processes" >&2
    exit 2
fi
head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# sbatch runs a copy of this file, so paths are relative to the folder from which the job was submitted.
srun --kill-on-bad-exit --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$processes_per_node" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head_node:${RENDEZVOUS_PORT:-29500}" \
    examples/pretrain.py --batch-size $((global_batch / processes)) --resume "$@"
