"""Resize, crop, flip, float32, and a camera's way: ours against what a user would pick. Writes its report beside it.

    python benchmarks/preprocess.py [--pillow-simd PYTHON] [--least]

The pipelines take turns, picture by picture, so that whatever else the machine does hits all of them. The figures are
medians. Every pipeline starts from the decoded picture; those of the first tables end with float32 (3, height, width),
-1..1. Needs Pillow 12, torchvision and OpenCV. Pillow-SIMD takes Pillow's place in an environment, so it runs in one of
its own: PYTHON is that environment's interpreter.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import cpu_name, table, versions
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode  # type: ignore[import-untyped]
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2  # type: ignore[import-untyped]

from cyclegan_edge import preprocess

REPORT = Path(__file__).with_suffix(".md")
BATCH = 64  # pictures per turn when two threads run
WARM_UP = 5  # turns
WANTED = 3.0  # torchvision v2 over ours, at least
CAMERA, MODEL = (720, 1280), (256, 448)  # px, height and width of a frame and of what the network reads


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    height: int
    width: int
    load: int  # px, both sides after the resize
    crop: int  # px, both sides of the crop

    def __str__(self) -> str:
        return f"{self.width}x{self.height} -> {self.load} -> {self.crop}"

    @property
    def offset(self) -> int:
        return (self.load - self.crop) // 2


CASES = (
    Case(256, 256, 286, 256),
    Case(720, 1280, 286, 256),
    Case(1080, 1920, 286, 256),
    Case(1080, 1920, 572, 512),
)


def pillow_v1(image: NDArray[np.uint8], case: Case) -> Any:
    size = [case.load, case.load]
    picture = v1.resize(Image.fromarray(image), size, InterpolationMode.BICUBIC)
    picture = v1.hflip(v1.crop(picture, case.offset, case.offset, case.crop, case.crop))
    return v1.normalize(v1.to_tensor(picture), [0.5] * 3, [0.5] * 3)


def torchvision_v2(image: NDArray[np.uint8], case: Case) -> Any:
    picture = torch.from_numpy(image).permute(2, 0, 1)  # channels last in memory: the layout its fast path wants
    picture = v2.resize(picture, [case.load, case.load], InterpolationMode.BICUBIC, antialias=True)
    picture = v2.horizontal_flip(v2.crop(picture, case.offset, case.offset, case.crop, case.crop))
    return v2.normalize(v2.to_dtype(picture, torch.float32, scale=True), [0.5] * 3, [0.5] * 3)


def opencv(image: NDArray[np.uint8], case: Case) -> Any:
    picture = cv2.resize(image, (case.load, case.load), interpolation=cv2.INTER_CUBIC)  # no antialiasing
    picture = picture[case.offset : case.offset + case.crop, case.offset : case.offset + case.crop]
    return cv2.dnn.blobFromImage(cv2.flip(picture, 1), 1 / 127.5, mean=(127.5, 127.5, 127.5))


def arguments(case: Case) -> tuple[tuple[int, int], tuple[int, int, int, int], bool]:
    return (case.load, case.load), (case.offset, case.offset, case.crop, case.crop), True


def ours(image: NDArray[np.uint8], case: Case, *, isa: str) -> Any:
    return preprocess.resize_crop(image, *arguments(case), isa=isa)


Pipeline = Callable[[NDArray[np.uint8], Case], Any]

PEERS: dict[str, Pipeline] = {
    "Pillow + torchvision v1": pillow_v1,
    "torchvision v2": torchvision_v2,
    "OpenCV, no antialiasing": opencv,
}


def read_once(image: NDArray[np.uint8]) -> int:
    """Touch every byte: what no pipeline can be faster than, but for the pixels outside the crop."""
    return int(np.bitwise_or.reduce(image.reshape(-1).view(np.uint64)))


Turn = Callable[[], float]  # does the work once and tells how many milliseconds that took
Summary = Callable[[list[float]], float]


def timed(work: Callable[[], Any]) -> Turn:
    def turn() -> float:
        start = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - start)

    return turn


def measure(turns: dict[str, Turn], seconds: float, summary: Summary) -> dict[str, float]:
    """Milliseconds of each, one after the other until the time is over."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        for _ in range(WARM_UP):
            turn()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, turn in turns.items():
            times[name].append(turn())
    return {name: summary(each) for name, each in times.items()}


PILLOW_SIMD = """
import os, sys, time
from PIL import Image
height, width, load = map(int, sys.argv[1:])
image = Image.frombytes("RGB", (width, height), os.urandom(3 * height * width))
for _ in sys.stdin:
    start = time.perf_counter()
    image.resize((load, load), Image.BICUBIC)
    print(1e3 * (time.perf_counter() - start), flush=True)
"""


@contextmanager
def pillow_simd(python: Path | None, case: Case) -> Iterator[dict[str, Turn]]:
    """Pillow-SIMD's resize alone, without crop and floats, in a process that measures itself when its turn comes."""
    if python is None:
        yield {}
        return
    sides = [str(side) for side in (case.height, case.width, case.load)]
    with subprocess.Popen(
        [python, "-c", PILLOW_SIMD, *sides], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def turn() -> float:
            print(file=stdin, flush=True)
            return float(stdout.readline())

        yield {"Pillow-SIMD, resize alone": turn}


def installed_pillow_simd() -> Path | None:
    """This interpreter, if Pillow-SIMD has taken Pillow's place here."""
    try:
        version("pillow-simd")
    except PackageNotFoundError:
        return None
    return Path(sys.executable)


def our_isas() -> list[str]:
    return [isa for isa in preprocess.available_isas() if isa != "scalar"] or ["scalar"]


def one_thread(
    case: Case, image: NDArray[np.uint8], seconds: float, summary: Summary, python: Path | None
) -> dict[str, float]:
    pipelines = PEERS | {isa: partial(ours, isa=isa) for isa in our_isas()}
    turns = {name: timed(partial(each, image, case)) for name, each in pipelines.items()}
    turns["read once"] = timed(partial(read_once, image))
    with pillow_simd(python, case) as simd:
        return measure(turns | simd, seconds, summary)


def camera(seconds: float, summary: Summary) -> dict[str, dict[str, float]]:
    """A BGR frame to an RGB picture of the model's size; that size back to a BGR frame."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*CAMERA, 3), dtype=np.uint8)
    picture = rng.integers(0, 256, (*MODEL, 3), dtype=np.uint8)

    def turns(image: NDArray[np.uint8], size: tuple[int, int]) -> dict[str, Turn]:
        def with_pillow() -> Any:
            return np.asarray(Image.fromarray(image[..., ::-1]).resize(size[::-1], Image.Resampling.BICUBIC))

        def with_torchvision() -> Any:
            planes = v2.resize(torch.from_numpy(image).permute(2, 0, 1), list(size), InterpolationMode.BICUBIC)
            return planes.flip(0).permute(1, 2, 0).contiguous()

        def with_opencv() -> Any:
            return cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size[::-1], interpolation=cv2.INTER_CUBIC)

        every: dict[str, Callable[[], Any]] = {
            "Pillow": with_pillow,
            "torchvision v2": with_torchvision,
            "OpenCV, no antialiasing": with_opencv,
            "ours after a copy": lambda: preprocess.resize(np.ascontiguousarray(image[..., ::-1]), size),
        } | {isa: partial(preprocess.resize, image, size, bgr=True, isa=isa) for isa in our_isas()}
        return {name: timed(each) for name, each in every.items()}

    return {
        f"{CAMERA[1]}x{CAMERA[0]} BGR -> {MODEL[1]}x{MODEL[0]} RGB": measure(turns(frame, MODEL), seconds, summary),
        f"{MODEL[1]}x{MODEL[0]} RGB -> {CAMERA[1]}x{CAMERA[0]} BGR": measure(turns(picture, CAMERA), seconds, summary),
    }


def two_threads(case: Case, image: NDArray[np.uint8], seconds: float, summary: Summary) -> dict[str, float]:
    """Milliseconds per picture, with a pool of two threads as in the training loader, and with one thread for ours."""
    images = [image.copy() for _ in range(BATCH)]

    def on(pool: ThreadPoolExecutor, pipeline: Pipeline) -> Turn:
        return timed(lambda: list(pool.map(pipeline, images, [case] * BATCH)))

    # The number of torch's own threads belongs to each thread that calls it; two more would spin beside ours.
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as two:
        auto = partial(ours, isa="auto")
        turns = {name: on(two, each) for name, each in PEERS.items()}
        times = measure(turns | {"ours, 1 thread": on(one, auto), "ours, 2 threads": on(two, auto)}, seconds, summary)
    return {name: each / BATCH for name, each in times.items()}


Row = tuple[str, dict[str, str]]  # what was measured, column -> cell


def rows_of(what: str, rows: list[Row]) -> str:
    return table([what, *rows[0][1]], [[name, *cells.values()] for name, cells in rows])


def cells(times: dict[str, float]) -> dict[str, str]:
    return {name: f"{each:.3f}" for name, each in times.items()}


def isa_row(case: Case, times: dict[str, float], isa: str) -> Row:
    mine = times[isa]
    shown = {name: each for name, each in times.items() if name == isa or name not in our_isas()}
    return str(case), cells(shown) | {
        f"torchvision v2 / {isa} (wanted)": f"{times['torchvision v2'] / mine:.1f} ({WANTED:g})",
        f"{isa} / OpenCV": f"{mine / times['OpenCV, no antialiasing']:.2f}",
    }


def scaling_row(case: Case, times: dict[str, float]) -> Row:
    return str(case), cells(times) | {"scaling": f"{times['ours, 1 thread'] / times['ours, 2 threads']:.2f}"}


def report(seconds: float, python: Path | None = None, *, least: bool = False) -> str:
    """The report as Markdown. `python` is the interpreter of an environment with Pillow-SIMD."""
    machine = f"{cpu_name()}, load at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    summary: Summary = min if least else statistics.median
    python = python or installed_pillow_simd()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (case.height, case.width, 3), dtype=np.uint8) for case in CASES]
    pairs = list(zip(CASES, images, strict=True))
    single = [(case, one_thread(case, image, seconds, summary, python)) for case, image in pairs]
    by_isa = "\n\n".join(
        f"### `CYCLEGAN_EDGE_ISA={isa}`\n\n"
        + rows_of("image -> load size -> crop", [isa_row(case, times, isa) for case, times in single])
        for isa in our_isas()
    )
    double = [scaling_row(case, two_threads(case, image, seconds, summary)) for case, image in pairs]
    live = [(way, cells(times)) for way, times in camera(seconds, summary).items()]
    isas, default = ", ".join(our_isas()), preprocess.default_isa()
    packages = versions("pillow", "torch", "torchvision", "opencv-python", "numpy")
    return f"""# Resize, crop, flip, float32

Written by `python benchmarks/preprocess.py`; run it again instead of editing. Milliseconds per picture, random pixels,
{"the least of all turns" if least else "medians"}. CPU: {machine}; instruction sets {isas}.
{packages}.{"" if python else " Pillow-SIMD is not installed."}

## One thread

{by_isa}

"read once" is numpy touching every byte of the picture: the limit set by memory.

## Two threads, {default}

{rows_of("image -> load size -> crop", double)}

## The camera's way, one thread

{rows_of("frame, bicubic to uint8", live)}

"ours after a copy" exchanges red and blue in numpy first, with {default}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row of each table")
    parser.add_argument("--pillow-simd", type=Path, help="Python of an environment that has Pillow-SIMD")
    parser.add_argument("--least", action="store_true", help="not medians, for a machine that does other things too")
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    text = report(options.seconds, options.pillow_simd, least=options.least)
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
