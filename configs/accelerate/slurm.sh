#!/bin/bash
# sbatch configs/accelerate/slurm.sh RECIPE key=value …      one launcher on each node, one process for each GPU; submitted again, the run goes on
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@60           # a minute before the end: the step is finished, a checkpoint is written
set -euo pipefail
GPUS=${GPUS:-8}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun bash -c 'exec accelerate launch --config_file configs/accelerate/ddp_nodes.yaml --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES*'"$GPUS"'))" \
    --machine_rank "$SLURM_NODEID" --main_process_ip '"$HEAD"' --main_process_port "$((20000 + SLURM_JOB_ID % 20000))" -m iad_nb.cli train "$@"' train "$@"
