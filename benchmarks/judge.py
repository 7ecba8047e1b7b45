"""A second judge: a small network that learns to tell the two domains of DATA apart, from nothing. Writes judge.pt.

    python benchmarks/judge.py DATA [--out judge.pt] [--epochs 12]
    cyclegan-edge evaluate RUN --features judge.pt
    python benchmarks/small.py TEACHER DATA --judge judge.pt

Networks with ImageNet weights resemble each other, and students here learn in the features of one. This one has seen
the training pictures of DATA alone, so what pleases both was not made for either. It finds what the domains differ in
and nothing else: judge grain and colour by the other.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclegan_edge.contract import Batch
from cyclegan_edge.files import atomic_file
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.data.layout import find_folder

SIDE, CROP = 144, 128  # px, of the pictures in memory and of what the network sees
MOST = 5000  # pictures of each domain
BATCH = 32
CHANNELS = (3, 32, 64, 96, 128, 128)  # the last are the features


class Judge(nn.Module):
    """float32 (N, 3, S, S) in 0..1 -> (N, 128), the features before its decision."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, wider in pairwise(CHANNELS):
            layers += [nn.Conv2d(channels, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.interpolate(x, (CROP, CROP), mode="bilinear", antialias=True)
        return self.layers(x * 2 - 1).mean((2, 3))  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("judge.pt"))
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    domains = [_load(options.data, f"train{domain}") for domain in "AB"]
    network, decide = Judge().to(device), nn.Linear(CHANNELS[-1], 1).to(device)
    weights = [*network.parameters(), *decide.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.05)
    steps = options.epochs * (sum(map(len, domains)) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    random = np.random.default_rng(0)
    for step in range(1, steps + 1):
        halves = [_cropped(pictures, random) for pictures in domains]
        batch = _signal(np.concatenate(halves)).to(device)
        answers = torch.repeat_interleave(torch.tensor([0.05, 0.95], device=device), BATCH // 2)
        loss = functional.binary_cross_entropy_with_logits(decide(network(batch))[:, 0], answers)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            sys.stderr.write(f"{step}/{steps} {loss.item():.3f}\n")
    network.eval()
    with torch.no_grad():
        tests = [decide(network(_signal(_load(options.data, f"test{domain}")).to(device))) > 0 for domain in "AB"]
        right = int((~tests[0]).sum() + tests[1].sum())
        script = torch.jit.trace(network.cpu(), torch.rand(2, 3, 256, 256))
    with atomic_file(options.out) as partial:
        torch.jit.save(script, str(partial))
    count = sum(map(len, tests))
    sys.stdout.write(f"{options.out}: {right} of {count} test pictures told apart after {steps} steps\n")


def _load(data: Path, name: str) -> Batch:
    """(N, SIDE, SIDE, 3)."""
    paths = list_images(find_folder(data, name, "") or data / name, most=MOST)
    return np.stack([resize(read_image(path), (SIDE, SIDE)) for path in paths])


def _cropped(pictures: Batch, random: np.random.Generator) -> Batch:
    """Half a batch of random crops, each flipped for every other."""
    chosen = []
    for index in random.integers(len(pictures), size=BATCH // 2):
        top, left = random.integers(SIDE - CROP + 1, size=2)
        crop = pictures[index, top : top + CROP, left : left + CROP]
        chosen.append(crop[:, ::-1] if random.integers(2) else crop)
    return np.stack(chosen)


def _signal(pictures: Batch) -> Tensor:
    """uint8 (N, S, S, 3) -> float32 (N, 3, S, S) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255


if __name__ == "__main__":
    main()
