"""One engine in a process of its own, so that its memory can be told from that of others: `python -m` this module.

It is told a `Task` as one line of JSON and answers with an `Opening`; then each line, a number, is how many times to
translate, and the answer is `Times`. It ends with its input. Engines that print do not disturb the answers.
"""

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from cyclegan_edge.backends import open_backend
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bounds import BOUNDS, measure, out_of_bounds
from cyclegan_edge.bundle import read_bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import CycleGanEdgeError, first_line
from cyclegan_edge.schema import from_mapping, to_mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What to open, and what to compare it on."""

    bundle: Path
    engine: EngineName
    precision: Precision
    threads: int
    pairs: Path  # .npy, uint8 (2, N, H, W, 3): pictures, and what the float32 graph makes of them


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What came of opening it."""

    name: str = ""  # "openvino 2026.4.1 fp32"
    device: str = ""
    psnr_db: float = 0.0
    out_of_bounds: str = ""
    error: str = ""  # why it did not open; the rest is empty then


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """What came of translating."""

    ms: tuple[float, ...]
    memory_mb: int  # see `Row`


def main() -> None:
    """Answer on the standard output; whatever else is printed goes to the standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        _serve(sys.stdin, answers)


def _serve(questions: TextIO, answers: TextIO) -> None:
    task = from_mapping(Task, json.loads(questions.readline()))
    pictures, wanted = np.load(task.pairs, allow_pickle=False)
    before = _memory("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
        backend, _ = open_backend(
            read_bundle(task.bundle), engine=task.engine, precision=task.precision, threads=task.threads
        )
        parity = measure(backend.run, list(zip(pictures, wanted, strict=True)), bound=BOUNDS[task.precision])
    except Exception as error:  # a broken library can fail in any way
        told = str(error) if isinstance(error, CycleGanEdgeError) else f"It does not run here ({first_line(error)})."
        _answer(answers, Opening(error=told))
        return
    wrong = " and ".join(out_of_bounds(parity))
    _answer(answers, Opening(name=backend.name, device=backend.device, psnr_db=parity.psnr_db, out_of_bounds=wrong))
    for line in questions:
        times = []
        for number in range(int(line)):
            picture = pictures[number % len(pictures)][np.newaxis]
            begun = time.perf_counter()
            backend.run(picture)
            times.append(1000 * (time.perf_counter() - begun))
        _answer(answers, Times(ms=tuple(times), memory_mb=max(0, _memory("VmHWM") - before) >> 10))


def _answer(answers: TextIO, what: Opening | Times) -> None:
    print(json.dumps(to_mapping(what)), file=answers, flush=True)


def _memory(field: str) -> int:
    """KiB of this process in /proc, VmRSS now or VmHWM at most; 0 where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


if __name__ == "__main__":
    main()
