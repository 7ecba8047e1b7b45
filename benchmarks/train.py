"""The training step against a plain one and the reference implementation. Writes train-DEVICE.md and .json.

    python benchmarks/train.py [--reference CLONE] [--minutes 9] [--rounds 1] [--steps 30]

CLONE is a clone of github.com/junyanz/pytorch-CycleGAN-and-pix2pix; without one its column is left out. What the ways
are stands in train_steps.py. Every measurement is a process of its own, so that its peak of memory is its own; with
several rounds the ways take turns, and the median counts. Pictures are noise and lie on the device already: the loader
has its own benchmark. The report is written again after every measurement, so one that is cut short leaves what it has;
nothing is started after `--minutes`.
"""

import argparse
import functools
import json
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from machine import cpu_name, table, versions
from torch.utils.flop_counter import FlopCounterMode
from train_profile import profiled
from train_steps import Case, execution_of, plain_step, step_of

from cyclegan_edge.files import write_file
from cyclegan_edge.train.evaluate.candidates import default_device
from cyclegan_edge.train.run_writer import memory

WARM_UP = {"cpu": 1, "cuda": 12}  # steps before the clock starts: compilation, recording, cuDNN's choices


@dataclass(frozen=True)
class Job:
    """One measurement."""

    case: Case
    way: str
    profile: bool = False  # also where its time goes


@dataclass(frozen=True)
class Done:
    """What came of a job."""

    job: Job
    seconds: float | None = None  # of a step, median
    gib: float | None = None  # peak memory
    profile: dict[str, Any] | None = None  # `train_profile.Profile`
    failed: str = ""


def jobs(kind: str, *, reference: bool) -> list[Job]:
    """In the order in which they are measured, so that what matters most is there when the time is over."""
    peers = ("plain", "reference") if reference else ("plain",)
    if kind == "cpu":
        ways = (*peers, "ours, fp32", "ours")
        small = [Job(Case(128, 1, 16, 4), way) for way in ways if way != "reference"]
        return [*small, *(Job(Case(256, 1), way) for way in ways)]
    ours = ("ours, not compiled", "ours")
    candidates = ("ours, in CUDA graphs", "ours, norms by sums", "ours, one pass a batch")
    one, eight = Case(256, 1), Case(256, 8)
    return [
        *(Job(one, way) for way in (*peers, *ours)),
        *(Job(eight, way) for way in peers),
        *(Job(eight, way, profile=True) for way in reversed(ours)),
        *(Job(eight, way) for way in candidates),
    ]


def measure(job: Job, steps: int, reference: Path | None = None) -> Done:
    """In this process."""
    device, size = default_device(), job.case.size
    take = step_of(job.case, job.way, device, reference)
    real_a, real_b = (torch.rand(job.case.batch, 3, size, size, device=device) * 2 - 1 for _ in "ab")

    def step() -> None:
        take(real_a, real_b)

    for _ in range(WARM_UP[device.type]):
        step()
    times = [seconds_of(step, device) for _ in range(steps)]
    gib = memory(device)["memory_gib"]
    profile = profiled(step, device).as_dict() if job.profile else None
    return Done(job, statistics.median(times), gib, profile)


def measure_alone(job: Job, steps: int, reference: Path | None) -> Done:
    """In a process of its own; what goes wrong there is told, and the next job goes on."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(measure, job, steps, reference).result()
    except Exception as error:
        return Done(job, failed=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


@functools.cache
def flops(case: Case) -> float:
    """Of one step, counted by torch over the plain algorithm, computing nothing."""
    device = torch.device("meta")
    step = plain_step(case, device)
    real_a, real_b = (torch.empty(case.batch, 3, case.size, case.size, device=device) for _ in "ab")
    with FlopCounterMode(display=False) as counter:
        step(real_a, real_b)
    return float(counter.get_total_flops())


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int = 8192) -> float:
    """The best rate of a large matrix product, in operations per second."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in "ab")
    return 2.0 * side**3 / min(seconds_of(lambda: torch.matmul(a, b), device) for _ in range(20))


def report(found: list[Done], head: str, rate: float) -> str:
    """Markdown: a table for each case, then where the time of a step went."""
    parts = [head]
    for case in dict.fromkeys(done.job.case for done in found):
        of_case = [done for done in found if done.job.case == case]
        parts += [section(case, of_case, rate), *(breakdown(done) for done in of_case if done.profile)]
    return "\n".join(parts)


def section(case: Case, found: list[Done], rate: float) -> str:
    """The table of one case."""
    work = flops(case)
    measured: dict[str, tuple[float, float]] = {}  # s of a step, GiB
    for way in dict.fromkeys(done.job.way for done in found):
        there = [done for done in found if done.job.way == way and done.seconds and done.gib]
        if there:
            measured[way] = statistics.median(it.seconds for it in there), max(it.gib for it in there)

    def line(way: str, seconds: float, gib: float) -> list[str]:
        against = [f"{measured[it][0] / seconds:.2f}" if it in measured else "" for it in ("plain", "reference")]
        return [way, f"{case.batch / seconds:.3f}", *against, f"{gib:.2f}", f"{work / seconds / rate:.1%}"]

    heads = ["", "pairs/s", "x plain", "x reference", "peak GiB", "share of the matrix product"]
    lines = [line(way, seconds, gib) for way, (seconds, gib) in measured.items()]
    failures = [f"\nNot measured, {done.job.way}: {done.failed}\n" for done in found if done.failed]
    return f"## {case}\n\n{work / 1e9:,.0f} GFLOP a step.\n\n{table(heads, lines)}\n" + "".join(failures)


def breakdown(done: Done) -> str:
    """Where the time of a step went."""
    assert done.profile is not None
    spent = done.profile["milliseconds"]
    whole = sum(spent.values())
    classes = [[name, f"{took:.2f}", f"{took / whole:.1%}"] for name, took in spent.items()]
    kernels = [
        [f"`{it['name'][:110]}`", f"{it['milliseconds']:.2f}", f"{it['calls']:.0f}"] for it in done.profile["kernels"]
    ]
    return (
        f"### Where the time goes: {done.job.way}, batch {done.job.case.batch}\n\n"
        f"Under the profiler, which costs time itself.\n\n{table(['', 'ms a step', 'share'], classes)}\n\n"
        f"{table(['kernel', 'ms a step', 'calls'], kernels)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a clone of the reference implementation")
    parser.add_argument("--minutes", type=float, help="start nothing after; 9 on CUDA, without end on the CPU")
    parser.add_argument("--rounds", type=int, help="1 on CUDA, 3 on the CPU")
    parser.add_argument("--steps", type=int, help="timed in each process; 5 on the CPU, 30 on CUDA")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    if arguments.reference and not (arguments.reference / "models" / "cycle_gan_model.py").is_file():
        parser.error(f"{arguments.reference} holds no models/cycle_gan_model.py; pass a clone of the reference.")
    device = default_device()
    cuda = device.type == "cuda"
    rounds, steps = arguments.rounds or (1 if cuda else 3), arguments.steps or (30 if cuda else 5)
    until = time.monotonic() + 60 * (arguments.minutes or (9 if cuda else 1e6))

    name = torch.cuda.get_device_name() if cuda else f"{cpu_name()}, {torch.get_num_threads()} threads"
    side = 8192 if cuda else 2048
    exact, half = (matmul_rate(device, dtype, side) for dtype in (torch.float32, torch.bfloat16))
    wanted = jobs(device.type, reference=arguments.reference is not None)
    head = f"""# Training step on {name}

Written by `python benchmarks/train.py`; run it again instead of editing. {rounds} rounds of {steps}
steps in turns, median. {versions("torch")}. Our defaults at batch 1: {execution_of(wanted[0].case, "ours", device)}.
Best matrix product: {exact / 1e9:,.0f} GFLOP/s in float32, {half / 1e9:,.0f} in bfloat16; the share is of the latter.
"""
    path = arguments.out / f"train-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.md"

    def keep(found: list[Done]) -> None:
        write_file(path, report(found, head, half))
        facts = {"device": name, "torch": torch.__version__, "float32": exact, "bfloat16": half}
        write_file(path.with_suffix(".json"), json.dumps({**facts, "found": [asdict(it) for it in found]}, indent=1))

    found = run(wanted * rounds, lambda job: measure_alone(job, steps, arguments.reference), keep, until=until)
    print(report(found, head, half))  # noqa: T201


def run(
    wanted: list[Job], measured: Callable[[Job], Done], keep: Callable[[list[Done]], None], *, until: float
) -> list[Done]:
    """Do one job after the other and keep everything after each; the jobs for which the time is over are named."""
    found: list[Done] = []
    keep(found)
    for job in wanted:
        over = time.monotonic() > until
        found.append(Done(job, failed="the time was over") if over else measured(job))
        keep(found)
    return found


if __name__ == "__main__":
    main()
