"""A small diffusion model (DDPM, arXiv 2006.11239) that draws digits: data, network, training, sampling.

In training, noise is laid over pictures, and a network learns to tell the picture below. Sampling begins with
nothing but noise and goes a little towards what the network sees in it, a hundred times over. The network is
told which digit to look for, so one can ask for a 7.

`python diffusion.py` trains it and writes weights.pt.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

SIZE = 12  # pixels along a picture's side
NOISE_STEPS = 100
WIDTH = 48
BATCH = 32
#: Batches of a training; 400 take a few seconds on a CPU.
TRAIN_STEPS = int(os.environ.get("TRAIN_STEPS", "400"))
WEIGHTS = Path(__file__).with_name("weights.pt")

FONT = """
.###. ..#.. .###. .###. ...#. ##### .###. ##### .###. .###.
#...# .##.. #...# #...# ..##. #.... #.... ....# #...# #...#
#...# ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...#
#...# ..#.. ...#. ..##. #..#. ....# ####. ..#.. .###. .####
#...# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....#
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ....#
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .###.
"""


def read_font() -> torch.Tensor:
    """The digits' glyphs: 10 × 1 × 7 × 5, ones and zeros."""
    rows = [line.split() for line in FONT.strip().split("\n")]
    return torch.tensor(
        [[[[float(dot == "#") for dot in row[digit]] for row in rows]] for digit in range(10)]
    )


def make_pictures(digits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A picture of each digit, from -1 to 1, no two alike: turned, sheared, resized and moved a little."""
    turn, scale, shear, right, down = torch.rand(5, len(digits), generator=generator) * 2 - 1
    turn, scale = 0.2 * turn, 1.35 + 0.15 * scale
    wide = 1.4 * scale  # glyphs are higher than wide
    x = torch.stack([wide * turn.cos(), wide * (turn.sin() + 0.2 * shear), 0.25 * right], 1)
    y = torch.stack([-scale * turn.sin(), scale * turn.cos(), 0.15 * down], 1)
    grid = F.affine_grid(torch.stack([x, y], 1), [len(digits), 1, SIZE, SIZE], align_corners=False)
    return F.grid_sample(read_font()[digits], grid, align_corners=False) * 2 - 1


class Block(nn.Module):
    """Two convolutions beside a shortcut; between them it is told of the time and the digit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.GroupNorm(4, WIDTH)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        return x + self.second(F.silu(self.norm(self.first(F.silu(x))) + told))


class Network(nn.Module):
    """Tells the picture below the noise. Each place of its work is 2 × 2 pixels, as four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Embedding(NOISE_STEPS, WIDTH)
        self.digit = nn.Embedding(10, WIDTH)
        self.first = nn.Conv2d(4, WIDTH, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(WIDTH, SIZE // 2, SIZE // 2))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.last = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
        told = (self.time(time) + self.digit(digits))[:, :, None, None]
        x = self.first(F.pixel_unshuffle(noisy, 2)) + self.place
        for block in self.blocks:
            x = block(x, told)
        return F.pixel_shuffle(self.last(F.silu(x)), 2)


def kept_signal() -> torch.Tensor:
    """How much of a picture's variance is left after each step of noise, from almost 1 to almost 0."""
    time = torch.arange(NOISE_STEPS + 1) / NOISE_STEPS
    whole = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    kept = (whole[1:] / whole[:-1]).clamp(min=0.001)  # of what the step before left
    return kept.cumprod(0)


def train(device: torch.device, stopped: Callable[[], bool] = lambda: False) -> Network:
    """Trains from scratch; a training that is stopped gives what it has."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = Network().to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=TRAIN_STEPS)
    signal = kept_signal()
    for step in range(1, TRAIN_STEPS + 1):
        if stopped():
            break
        digits = torch.randint(10, (BATCH,), generator=generator)
        time = torch.randint(NOISE_STEPS, (BATCH,), generator=generator)
        picture = make_pictures(digits, generator)
        noise = torch.randn(picture.shape, generator=generator)
        left = signal[time][:, None, None, None]
        noisy = left.sqrt() * picture + (1 - left).sqrt() * noise
        seen = network(noisy.to(device), time.to(device), digits.to(device))
        loss = F.mse_loss(seen, picture.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        if step % 100 == 0 or step == TRAIN_STEPS:
            print(f"step {step}/{TRAIN_STEPS} loss {loss.item():.4f}", flush=True)
    return network


@torch.no_grad()
def sample(network: Network, digits: list[int], seed: int) -> torch.Tensor:
    """A picture of each digit, len(digits) × SIZE × SIZE from 0 to 1; the same ones for the same seed."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)  # on the CPU: a GPU draws the same numbers
    signal = kept_signal().tolist()
    wanted = torch.tensor(digits, device=device)
    picture = torch.randn(len(digits), 1, SIZE, SIZE, generator=generator).to(device)
    for time in reversed(range(NOISE_STEPS)):
        now, before = signal[time], signal[time - 1] if time else 1.0
        added = 1 - now / before  # the step's own noise
        seen = network(picture, torch.full_like(wanted, time), wanted).clamp(-1, 1)
        fresh = torch.randn(picture.shape, generator=generator).to(device)
        # Equations 6 and 7 of the paper. The last step, where nothing is left before it, gives what is seen.
        picture = (before**0.5 * added * seen + (1 - added) ** 0.5 * (1 - before) * picture) / (1 - now)
        picture += (added * (1 - before) / (1 - now)) ** 0.5 * fresh
    return (picture[:, 0].cpu().clamp(-1, 1) + 1) / 2


def save(network: Network, path: Path = WEIGHTS) -> None:
    """Replaces the file in one step, so that it is whole whenever the process dies."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        torch.save(network.state_dict(), file)
    os.replace(temporary, path)


def load(device: torch.device, path: Path = WEIGHTS) -> Network:
    """The network with the weights of a file."""
    network = Network().to(device)
    network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return network


def choose_device() -> torch.device:
    """The GPU where PyTorch can use it, and says what it is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    simulated = " (the GPUs are simulated)" if os.environ.get("GPUYARD_SIMULATED") == "1" else ""
    print(f"Using device: {device.type}{simulated}", flush=True)
    torch.set_num_threads(1)  # the network is too small to gain by more
    return device


if __name__ == "__main__":
    save(train(choose_device()))
    print(f"Wrote {WEIGHTS.name}")
