"""Trains one model on several nodes with DistributedDataParallel; saves when it is told to stop, and resumes.

Each pod's torchrun starts one process for each GPU; how many there are, and where the first one is, it has
from gpuyard. Rank 0 writes the checkpoint, after each epoch and when any rank was told to stop: a file in a
folder that all pods see, written whole or not at all.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STOP = {"asked": False}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that each epoch takes longer")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/multinode.pt"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: STOP.update(asked=True))

    local_rank = int(os.environ["LOCAL_RANK"])
    use_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", local_rank) if use_gpus else torch.device("cpu")
    if use_gpus:
        torch.cuda.set_device(device)
    torch.set_num_threads(1)
    dist.init_process_group("nccl" if use_gpus else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    simulated = ", GPUs simulated" if os.environ.get("GPUYARD_SIMULATED") == "1" else ""
    print(
        f"rank {rank} of {world}: Using device: {device.type} ({dist.get_backend()}{simulated})", flush=True
    )

    torch.manual_seed(0)
    model = nn.Linear(4, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first = load(options.checkpoint, model, optimizer, device)
    if rank == 0 and first > 1:
        print(f"Resuming after epoch {first - 1} from {options.checkpoint}", flush=True)
    parallel = DistributedDataParallel(model, device_ids=[local_rank] if use_gpus else None)
    truth = torch.tensor([[1.0, -2.0, 3.0, 0.5]], device=device)
    loss = torch.zeros(())
    for epoch in range(first, options.epochs + 1):
        # What an epoch sees follows from its number, so that a training that resumes sees the same.
        torch.manual_seed(1000 * epoch + rank)
        for _ in range(20):
            x = torch.randn(64, 4, device=device)
            loss = nn.functional.mse_loss(parallel(x), x @ truth.T)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        time.sleep(options.pause)
        # A signal reaches the ranks at different moments: they have to agree, or some wait for ever.
        stop = torch.tensor(float(STOP["asked"]), device=device)
        dist.all_reduce(stop, op=dist.ReduceOp.MAX)
        if rank == 0:
            save(options.checkpoint, epoch, model, optimizer)
            print(f"epoch {epoch}/{options.epochs} loss {loss.item():.6f}", flush=True)
        dist.barrier()
        if stop.item():
            if rank == 0:
                print(f"Stopped: saved after epoch {epoch}", flush=True)
            sys.exit(0)
    if rank == 0:
        print(f"Trained {options.epochs} epochs on {world} processes, loss {loss.item():.6f}", flush=True)
    dist.destroy_process_group()


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """The epoch to begin with: all ranks read what rank 0 has saved."""
    if not checkpoint.exists():
        return 1
    saved = torch.load(checkpoint, map_location=device)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["epoch"]) + 1


def save(checkpoint: Path, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Whole or not at all: whoever is killed in the middle leaves the checkpoint before."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".new")
    with unfinished.open("wb") as file:
        torch.save({"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(checkpoint)


if __name__ == "__main__":
    main()
