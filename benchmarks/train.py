"""The training step against a plain one, as the reference implementation takes it. Writes benchmarks/train-DEVICE.md.

    python benchmarks/train.py [--rounds 3] [--steps 5]

Plain: twelve passes one after the other in float32 under torch's defaults (TF32 in CUDA's convolutions), Adam as torch
picks it. Ours: `cyclegan-edge train` with its defaults, and with single settings changed. Every measurement is a
process of its own, so that its peak of memory is its own; the ways take turns, and the median over all rounds counts.
Pictures are noise and lie on the device already: the loader has its own benchmark.
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from preprocess import cpu_name
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.execution import PLAIN, allow_tf32, resolve
from cyclegan_edge.train.losses import cycle_loss, discriminator_gan_loss, generator_gan_loss, identity_loss
from cyclegan_edge.train.state import new_state
from cyclegan_edge.train.step import Step

WARM_UP = {"cpu": 1, "cuda": 12}  # steps before the clock starts: compilation, recording, cuDNN's choices
WAYS: dict[str, list[str]] = {  # what is changed from our defaults
    "plain": [],
    "ours": [],
    "ours, fp32": ["speed.precision=fp32"],
    "ours, not compiled": ["speed.compile=off"],
    "ours, no CUDA graphs": ["speed.cuda_graphs=off"],
    "ours, channels_first": ["speed.channels_last=off"],
}
SHOWN = {"cpu": ["plain", "ours, fp32", "ours"], "cuda": list(WAYS)}


@dataclass(frozen=True)
class Case:
    """One size of the problem."""

    size: int
    batch: int
    width: int = 64
    blocks: int = 9

    def __str__(self) -> str:
        return f"{self.size} px, batch {self.batch}, width {self.width}, {self.blocks} blocks"


CASES = {
    "cpu": [Case(128, 1, 16, 4), Case(256, 1)],
    "cuda": [Case(256, 1), Case(256, 8), Case(512, 1)],
}


def settings(case: Case, way: str) -> TrainConfig:
    given = {
        "data": "none",
        "size": case.size,
        "batch": case.batch,
        "generator.width": case.width,
        "generator.blocks": case.blocks,
        "discriminator.width": case.width,
    }
    config = load_settings(TrainConfig, None, WAYS[way], overrides=given)
    return replace(config, speed=PLAIN) if way == "plain" else config


def plain_step(config: TrainConfig, device: torch.device) -> Callable[[Tensor, Tensor], None]:
    """The objective in the order of the reference implementation, one network pass at a time."""
    state = new_state(config, device)
    g_ab, g_ba, d_a, d_b = (network for _, network in state.networks.items())
    generators, discriminators = (
        torch.optim.Adam([p for net in nets for p in net.parameters()], lr=2e-4, betas=(0.5, 0.999))
        for nets in ((g_ab, g_ba), (d_a, d_b))
    )

    def step(real_a: Tensor, real_b: Tensor) -> None:
        fake_b, fake_a = g_ab(real_a), g_ba(real_b)
        cycled_a, cycled_b = g_ba(fake_b), g_ab(fake_a)
        for network in (d_a, d_b):
            network.requires_grad_(False)
        generators.zero_grad()
        loss = generator_gan_loss(d_b(fake_b)) + generator_gan_loss(d_a(fake_a))
        loss = loss + 10.0 * (cycle_loss(cycled_a, real_a) + cycle_loss(cycled_b, real_b))
        loss = loss + 5.0 * (identity_loss(g_ba(real_a), real_a) + identity_loss(g_ab(real_b), real_b))
        loss.backward()
        generators.step()
        for network in (d_a, d_b):
            network.requires_grad_(True)
        discriminators.zero_grad()
        for judge, real, fake, pool in (
            (d_a, real_a, fake_a, state.replay_a),
            (d_b, real_b, fake_b, state.replay_b),
        ):
            discriminator_gan_loss(judge(real), judge(pool.query(fake))).backward()
        discriminators.step()

    return step


def our_step(config: TrainConfig, device: torch.device) -> Callable[[Tensor, Tensor], object]:
    execution = resolve(config.speed, device, size=config.size, batch=config.batch)
    allow_tf32(execution)
    return Step(new_state(config, device), config.objective, execution)


def measure(case: Case, way: str, steps: int) -> dict[str, float]:
    """Pairs per second and peak memory, in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = settings(case, way)
    step = plain_step(config, device) if way == "plain" else our_step(config, device)
    real_a, real_b = (torch.rand(case.batch, 3, case.size, case.size, device=device) * 2 - 1 for _ in "ab")
    for _ in range(WARM_UP[device.type]):
        step(real_a, real_b)
    times = []
    for _ in range(steps):
        wait(device)
        began = time.perf_counter()
        step(real_a, real_b)
        wait(device)
        times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(times), "gib": peak_gib(device)}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def flops(case: Case) -> float:
    """Of one step, counted by torch over the plain algorithm at a quarter of the sides, times 16."""
    small = replace(case, size=case.size // 4, batch=1)
    step = plain_step(settings(small, "plain"), torch.device("cpu"))
    real_a, real_b = (torch.rand(1, 3, small.size, small.size) for _ in "ab")
    with FlopCounterMode(display=False) as counter:
        step(real_a, real_b)
    return float(counter.get_total_flops()) * case.batch * 16


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of a large matrix product, in operations per second."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    best = 0.0
    for _ in range(20):
        wait(device)
        began = time.perf_counter()
        functional.linear(a, b)
        wait(device)
        best = max(best, 2.0 * side**3 / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="timed in each process; 5 on the CPU, 50 on CUDA")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    steps = arguments.steps or (5 if kind == "cpu" else 50)
    if arguments.one:
        print(json.dumps(measure(CASES[kind][int(arguments.one[0])], arguments.one[1], steps)))  # noqa: T201
        return
    report(kind, arguments.rounds, steps, arguments.out)


def report(kind: str, rounds: int, steps: int, out: Path) -> None:
    device = torch.device(kind)
    name = torch.cuda.get_device_name() if kind == "cuda" else f"{cpu_name()}, {torch.get_num_threads()} threads"
    peaks = {dtype: matmul_peak(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    ours = resolve(settings(CASES[kind][0], "ours").speed, device, size=256, batch=1)
    lines = [
        f"# Training step on {name}",
        "",
        f"Written by `python benchmarks/train.py`; run it again instead of editing. {rounds} rounds of {steps}",
        f"steps in turns, median. Python {platform.python_version()}, torch {torch.__version__}. Our defaults: {ours}.",
        f"Best matrix product: {peaks[torch.float32] / 1e9:,.0f} GFLOP/s in float32, "
        f"{peaks[torch.bfloat16] / 1e9:,.0f} in bfloat16; the share is of the latter.",
        "",
    ]
    for index, case in enumerate(CASES[kind]):
        work = flops(case)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in SHOWN[kind]}
        for _ in range(rounds):
            for way in found:
                found[way].append(in_its_own_process(index, way, steps))
        lines += [f"## {case}", "", f"{work / 1e9:,.0f} GFLOP a step.", ""]
        lines += [
            "| | pairs/s | x plain | peak GiB | of plain | share of the matrix product |",
            "|---|---|---|---|---|---|",
        ]
        seconds = {way: statistics.median(one["seconds"] for one in results) for way, results in found.items()}
        memory = {way: max(one["gib"] for one in results) for way, results in found.items()}
        for way in found:
            share = work / seconds[way] / peaks[torch.bfloat16]
            lines.append(
                f"| {way} | {case.batch / seconds[way]:.3f} | {seconds['plain'] / seconds[way]:.2f} "
                f"| {memory[way]:.2f} | {memory[way] / memory['plain']:.0%} | {share:.0%} |"
            )
        lines.append("")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    path = out / f"train-{slug}.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))  # noqa: T201


def in_its_own_process(case: int, way: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", str(case), way, "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
