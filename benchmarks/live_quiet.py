"""What a scene that hardly changes gets: a covered lens, flicker, runs that are saved. A part of benchmarks/live.py."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from live_stand_ins import SIZE_720P, Cycling, Row, StandIn

from cyclegan_edge import Translator
from cyclegan_edge.video.frames import BgrPicture
from cyclegan_edge.video.sources import open_source
from cyclegan_edge.video.stabilize import FrameSkipper, Stabilizer


def quiet(model: Path | None, data: Path | None) -> Iterator[Row]:
    """Covered lens, flicker and skipping, with a real model."""
    if model is None:
        yield Row("covered lens, flicker", "", "left out: no --model")
        return
    translator = Translator.load(model)
    rng = np.random.default_rng(0)
    yield from _covered(translator, rng)
    if data is None:
        yield Row("flicker on the clips", "", "left out: no --data with clips/")
        return
    for clip in sorted((data / "clips").iterdir()):
        yield from _clip(translator, clip)


def _covered(translator: Translator, rng: np.random.Generator) -> Iterator[Row]:
    stabilizer, shown, raw = Stabilizer(), [], []
    for _ in range(12):
        dark = np.clip(rng.normal(3, 2, (*SIZE_720P, 3)).round(), 0, 255).astype(np.uint8)
        batch = translator.prepare(dark, bgr=True)
        output = translator.run(batch)
        raw.append(translator.restore(output, *SIZE_720P, bgr=True).astype(np.int16))
        shown.append(translator.restore(stabilizer(batch, output), *SIZE_720P, bgr=True).astype(np.int16))
    before, after = (np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(it)]) for it in (raw, shown))
    level = np.mean([picture.mean() for picture in shown])
    yield Row(
        f"covered lens (level 3, sigma 2): change a frame, {before:.1f} levels without fading",
        "<= 2 levels",
        f"{after:.2f} levels, at level {level:.0f}",
        bool(after <= 2),
    )


def _clip(translator: Translator, clip: Path) -> Iterator[Row]:
    """Flicker of still pixels with and without smoothing, and what smoothing changes where the input moved."""
    source, stabilizer, skipper = open_source(str(clip)), Stabilizer(), FrameSkipper()
    stabilizer.smooth = skipper.enabled = True
    plain, smooth, harm, costs = [], [], [], []
    before: tuple[BgrPicture, BgrPicture, BgrPicture] | None = None
    for _ in range(40):
        frame = source.read()
        if frame is None:
            break
        batch = translator.prepare(frame.image, bgr=True)
        output = translator.run(batch)
        began = time.perf_counter()
        smoothed = stabilizer(batch, output)
        costs.append(1000 * (time.perf_counter() - began))
        if before is not None:
            difference = np.abs(batch[0].astype(np.int16) - before[0]).max(-1)
            still, moved = difference <= 3, difference > 8
            plain.append(np.abs(output[0].astype(np.int16) - before[1])[still].mean())
            smooth.append(np.abs(smoothed[0].astype(np.int16) - before[2])[still].mean())
            if moved.any():
                harm.append(np.abs(smoothed[0].astype(np.int16) - output[0])[moved].mean())
        before = batch[0], output[0], smoothed[0]
    source.close()
    ratio = np.mean(smooth) / np.mean(plain)
    yield Row(
        f"--smooth on {clip.name}: change a frame of still pixels, {np.mean(plain):.2f} levels without",
        "halved",
        f"{np.mean(smooth):.2f} levels, {ratio:.0%}",
        bool(ratio <= 0.5),
    )
    worst = max(harm, default=0.0)
    yield Row("  where the input moved more than 8 levels", "<= 0.5 level", f"{worst:.2f} level", bool(worst <= 0.5))
    yield Row("  time for it", "1.8 ms of a prototype", f"{np.median(costs):.2f} ms", bool(np.median(costs) <= 1.8))


def skipping(seconds: float) -> Iterator[Row]:
    """Runs that a static scene saves, under a camera's noise, and that a moving one does not."""
    rng = np.random.default_rng(0)
    still = Cycling(30).read().image
    translator, skipper = Translator(StandIn(0), size=256), FrameSkipper()
    skipper.enabled = True
    for _ in range(100):
        noisy = np.clip(still + rng.normal(0, 2, still.shape), 0, 255).astype(np.uint8)
        skipper(translator.prepare(noisy, bgr=True), translator)
    yield Row(
        "--skip on a static scene with noise of 2 levels", ">= 90 %", f"{skipper.skipped} %", skipper.skipped >= 90
    )
