"""Trains one model in several processes with DistributedDataParallel; all end up with the same weights.

torch.distributed.run starts the processes and tells each its rank. One process uses one GPU (NCCL); where
there are none, all use the CPU (gloo).
"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 30


def main() -> None:
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

    # The same start everywhere, other data on each rank.
    torch.manual_seed(0)
    model = nn.Linear(4, 1).to(device)
    parallel = DistributedDataParallel(model, device_ids=[local_rank] if use_gpus else None)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.05)
    torch.manual_seed(rank)
    truth = torch.tensor([[1.0, -2.0, 3.0, 0.5]], device=device)
    for step in range(1, STEPS + 1):
        x = torch.randn(64, 4, device=device)
        loss = nn.functional.mse_loss(parallel(x), x @ truth.T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0 and step % 10 == 0:
            print(f"step {step}/{STEPS} loss {loss.item():.6f}", flush=True)

    # Both stay in variables until the group is gone: in torch 1.13 the process could hang at its end when
    # gloo's thread was left to free a tensor.
    mine = model.weight.detach()
    weights = [torch.empty_like(mine) for _ in range(world)]
    dist.all_gather(weights, mine)
    if not all(torch.equal(mine, other) for other in weights):
        raise SystemExit("the ranks ended with different weights")
    if rank == 0:
        print(f"All {world} ranks hold the same weights: {mine.flatten().tolist()}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
