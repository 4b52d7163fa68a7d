"""Trains a small network, saves it after every epoch, and goes on from there when it is started again.

A resumed training ends with exactly the weights of one that was never interrupted, because the checkpoint
holds everything that the next epoch depends on: weights, optimiser and random state.
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import nn


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=int(os.environ.get("EPOCHS", "10")))
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/last.pt"))
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS",
                        help="wait after each epoch, to have time to kill it")  # fmt: skip
    return parser.parse_args()


def make_data(device: torch.device) -> "tuple[torch.Tensor, torch.Tensor]":
    """A noisy sine, the same in every process."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(512, 1, generator=generator) * 6 - 3
    y = torch.sin(x) + 0.05 * torch.randn(512, 1, generator=generator)
    return x.to(device), y.to(device)


def save_atomically(state: dict, path: Path) -> None:
    """Replaces the checkpoint in one step: whenever the process dies, a whole one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor
) -> float:
    """One pass over the data in random order; the mean loss."""
    total = 0.0
    for batch in torch.randperm(len(x)).split(64):
        loss = nn.functional.mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(x)


def main() -> None:
    arguments = parse_arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    simulated = " (the GPUs are simulated)" if os.environ.get("GPUYARD_SIMULATED") == "1" else ""
    print(f"Using device: {device.type}{simulated}", flush=True)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    done = 0
    if arguments.checkpoint.exists():
        checkpoint = torch.load(arguments.checkpoint, map_location="cpu")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["random"])
        done = checkpoint["epoch"]
        print(f"Resuming after epoch {done} from {arguments.checkpoint}", flush=True)

    x, y = make_data(device)
    for epoch in range(done + 1, arguments.epochs + 1):
        loss = train_epoch(model, optimizer, x, y)
        state = {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        save_atomically(state, arguments.checkpoint)
        print(f"epoch {epoch}/{arguments.epochs} loss {loss:.6f}", flush=True)
        time.sleep(arguments.pause)
    with torch.no_grad():
        loss = nn.functional.mse_loss(model(x), y).item()
    print(f"Trained {max(done, arguments.epochs)} epochs, loss {loss:.6f}")


if __name__ == "__main__":
    main()
