"""Resize, crop, flip, float32: ours against what a user would pick instead. Writes benchmarks/preprocess.md.

    python benchmarks/preprocess.py

The pipelines take turns in one process, picture by picture, so that whatever else the machine does hits all of them.
The figures are medians. Every pipeline starts from the decoded picture and ends with float32 (3, height, width), -1..1.
Needs Pillow 12, torchvision and OpenCV.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    height: int
    width: int
    load: int  # px, both sides after the resize
    crop: int  # px, both sides of the crop
    ratio: float  # torchvision v2 over ours, at least
    opencv: float  # ours over OpenCV, at most

    def __str__(self) -> str:
        return f"{self.width}x{self.height} -> {self.load} -> {self.crop}"

    @property
    def offset(self) -> int:
        return (self.load - self.crop) // 2


CASES = (
    Case(256, 256, 286, 256, ratio=6.0, opencv=1.0),
    Case(720, 1280, 286, 256, ratio=3.0, opencv=1.0),
    Case(1080, 1920, 286, 256, ratio=3.0, opencv=1.3),
    Case(1080, 1920, 572, 512, ratio=3.5, opencv=1.0),
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


def medians(turns: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Milliseconds per call of each, one after the other until the time is over."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in turns.values():
        for _ in range(WARM_UP):
            turn()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, turn in turns.items():
            start = time.perf_counter()
            turn()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def one_thread(case: Case, image: NDArray[np.uint8], seconds: float) -> dict[str, float]:
    isas = [isa for isa in preprocess.available_isas() if isa != "scalar"] or ["scalar"]
    pipelines = PEERS | {isa: partial(ours, isa=isa) for isa in isas}
    turns: dict[str, Callable[[], Any]] = {name: partial(each, image, case) for name, each in pipelines.items()}
    return medians(turns | {"read once": partial(read_once, image)}, seconds)


def two_threads(case: Case, image: NDArray[np.uint8], seconds: float) -> dict[str, float]:
    """Milliseconds per picture, with a pool of two threads as in the training loader, and with one thread for ours."""
    images = [image.copy() for _ in range(BATCH)]

    def on(pool: ThreadPoolExecutor, pipeline: Pipeline) -> Any:
        return list(pool.map(pipeline, images, [case] * BATCH))

    # The number of torch's own threads belongs to each thread that calls it; two more would spin beside ours.
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as two:
        turns: dict[str, Callable[[], Any]] = {name: partial(on, two, each) for name, each in PEERS.items()}
        auto = partial(ours, isa="auto")
        turns |= {"ours, 1 thread": partial(on, one, auto), "ours, 2 threads": partial(on, two, auto)}
        times = medians(turns, seconds)
    return {name: each / BATCH for name, each in times.items()}


def rows_of(
    measured: list[tuple[Case, dict[str, float]]], extra: Callable[[Case, dict[str, float]], dict[str, str]]
) -> str:
    rows = [{name: f"{each:.3f}" for name, each in times.items()} | extra(case, times) for case, times in measured]
    cells = [[str(case), *row.values()] for (case, _), row in zip(measured, rows, strict=True)]
    return table(["image -> load size -> crop", *rows[0]], cells)


def ratios(case: Case, times: dict[str, float]) -> dict[str, str]:
    best = times[preprocess.default_isa()]
    against_v2, against_opencv = times["torchvision v2"] / best, best / times["OpenCV, no antialiasing"]
    return {
        "v2 / ours (wanted)": f"{against_v2:.1f} ({case.ratio:g})",
        "ours / OpenCV (wanted)": f"{against_opencv:.2f} ({case.opencv:g})",
    }


def scaling(_: Case, times: dict[str, float]) -> dict[str, str]:
    return {"scaling": f"{times['ours, 1 thread'] / times['ours, 2 threads']:.2f}"}


def report(seconds: float) -> str:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (case.height, case.width, 3), dtype=np.uint8) for case in CASES]
    pairs = list(zip(CASES, images, strict=True))
    single = [(case, one_thread(case, image, seconds)) for case, image in pairs]
    double = [(case, two_threads(case, image, seconds)) for case, image in pairs]
    return f"""# Resize, crop, flip, float32

Written by `python benchmarks/preprocess.py`; run it again instead of editing. Milliseconds per picture, medians, random
pixels. CPU: {cpu_name()}.
{versions("pillow", "torch", "torchvision", "opencv-python", "numpy")}.

## One thread

{rows_of(single, ratios)}

"read once" is numpy touching every byte of the picture: the limit set by memory.

## Two threads

{rows_of(double, scaling)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row of each table")
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    text = report(options.seconds)
    options.out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
