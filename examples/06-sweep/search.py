"""One task of a search: fits y = 3x + 1 by gradient descent, with its learning rate and its seed."""

import argparse
import os
import sys

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--steps", type=int, default=100)
options = parser.parse_args()
torch.manual_seed(int(os.environ.get("SEED", "0")))

x = torch.rand(64, 1)
y = 3 * x + 1
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=options.lr)
for _ in range(options.steps):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
result = f"lr {options.lr:g} seed {os.environ.get('SEED', '0')}: loss {loss.item():.6f}"
if not torch.isfinite(loss):
    sys.exit(f"{result}: it diverged")
print(result)
