"""The training step against a plain one, as the reference implementation takes it. Writes benchmarks/train-DEVICE.md.

    python benchmarks/train.py [--rounds 3] [--steps 5]

Plain: twelve passes one after the other in float32 under torch's defaults (TF32 in CUDA's convolutions), Adam as torch
picks it. Ours: `cyclegan-edge train` with its defaults, and with single settings changed. Every measurement is a
process of its own, so that its peak of memory is its own; the ways take turns, and the median over all rounds counts.
Pictures are noise and lie on the device already: the loader has its own benchmark.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from machine import cpu_name, table, versions
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.evaluate.candidates import default_device
from cyclegan_edge.train.execution import PLAIN, allow_tf32, resolve
from cyclegan_edge.train.losses import cycle_loss, discriminator_gan_loss, generator_gan_loss, identity_loss
from cyclegan_edge.train.run_writer import memory
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


class Measured(NamedTuple):
    seconds: float  # of a step, median
    gib: float  # peak memory


def measure(case: Case, way: str, steps: int) -> Measured:
    """One way, in this process."""
    device = default_device()
    config = settings(case, way)
    step = plain_step(config, device) if way == "plain" else our_step(config, device)
    real_a, real_b = (torch.rand(case.batch, 3, case.size, case.size, device=device) * 2 - 1 for _ in "ab")
    for _ in range(WARM_UP[device.type]):
        step(real_a, real_b)
    times = [seconds_of(lambda: step(real_a, real_b), device) for _ in range(steps)]
    return Measured(statistics.median(times), memory(device)["memory_gib"])


def measure_alone(case: Case, way: str, steps: int) -> Measured:
    """One way, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, case, way, steps).result()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


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
    return 2.0 * side**3 / min(seconds_of(lambda: functional.linear(a, b), device) for _ in range(20))


def section(case: Case, ways: list[str], rounds: int, steps: int, peak: float) -> str:
    """The table of one case; the ways take turns."""
    found = [{way: measure_alone(case, way, steps) for way in ways} for _ in range(rounds)]
    seconds = {way: statistics.median(one[way].seconds for one in found) for way in ways}
    gib = {way: max(one[way].gib for one in found) for way in ways}
    work = flops(case)
    rows = [
        [
            way,
            f"{case.batch / seconds[way]:.3f}",
            f"{seconds['plain'] / seconds[way]:.2f}",
            f"{gib[way]:.2f}",
            f"{gib[way] / gib['plain']:.0%}",
            f"{work / seconds[way] / peak:.0%}",
        ]
        for way in ways
    ]
    heads = ["", "pairs/s", "x plain", "peak GiB", "of plain", "share of the matrix product"]
    return f"## {case}\n\n{work / 1e9:,.0f} GFLOP a step.\n\n{table(heads, rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="timed in each process; 5 on the CPU, 50 on CUDA")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    device = default_device()
    kind, rounds = device.type, arguments.rounds
    steps = arguments.steps or (5 if kind == "cpu" else 50)
    name = torch.cuda.get_device_name() if kind == "cuda" else f"{cpu_name()}, {torch.get_num_threads()} threads"
    exact, half = (matmul_peak(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    ours = resolve(settings(CASES[kind][0], "ours").speed, device, size=256, batch=1)
    head = f"""# Training step on {name}

Written by `python benchmarks/train.py`; run it again instead of editing. {rounds} rounds of {steps}
steps in turns, median. {versions("torch")}. Our defaults: {ours}.
Best matrix product: {exact / 1e9:,.0f} GFLOP/s in float32, {half / 1e9:,.0f} in bfloat16; the share is of the latter.
"""
    text = "\n".join([head, *(section(case, SHOWN[kind], rounds, steps, half) for case in CASES[kind])])
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    (arguments.out / f"train-{slug}.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
