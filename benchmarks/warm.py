"""Starting from a trained model against starting from scratch, figure against minutes. Writes warm.md and warm.png.

    python benchmarks/warm.py [--base-minutes 2.5] [--minutes 2.2]

The base learns summer -> winter on rendered landscapes. The task has fewer pictures, of other worlds, and its winter is
at dusk, which the base never saw. Each way then has the same minutes for it, the rate falling to 0 at their end, and is
measured on test pictures whose truth is known. One run of each, one after the other: twelve minutes on two CPU cores.
"""

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from machine import cpu_name, table, versions
from matplotlib.figure import Figure

from cyclegan_edge.files import atomic_file, write_file
from cyclegan_edge.images import list_images, read_image, write_image
from cyclegan_edge.scenes import write_dataset
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.loop import choose_device, fit
from cyclegan_edge.train.metrics_log import read_curves
from cyclegan_edge.train.runs import Run, new_run, open_data
from cyclegan_edge.train.state import new_state
from cyclegan_edge.train.validation import Validator
from cyclegan_edge.train.warm_start import WarmStart, start_from_checkpoint

DUSK = (0.50, 0.56, 0.88)  # of the levels of red, green and blue by day
LEARNING_RATE = 6e-4  # as in `cyclegan-edge demo`, for small networks and minutes
EVALUATE_EVERY = 25  # steps
MARKS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the minutes, where the tables have a row
FIGURES = {"psnr_translated_db": "PSNR, dB", "ssim_translated": "SSIM"}  # to the true winter at dusk


@dataclass(frozen=True)
class Way:
    """One way to start."""

    name: str
    takes: tuple[str, ...] | None = ()  # networks of the base; None: all
    rate: float = 1.0  # factor of the learning rate


WAYS = (
    Way("from scratch"),
    Way("from the run", takes=None),
    Way("from the run, a third of the rate", takes=None, rate=1 / 3),
    Way("from its generator alone", takes=("generator_ab",)),
)


@dataclass(frozen=True)
class Curve:
    """What the test pictures said of a way, in the order of the minutes."""

    minutes: Sequence[float]
    values: Mapping[str, Sequence[float]]  # by the names of FIGURES

    def at(self, figure: str, minutes: float) -> float:
        """As it was measured last until then."""
        return [value for time, value in zip(self.minutes, self.values[figure], strict=True) if time <= minutes][-1]

    def reaches(self, figure: str, value: float) -> float | None:
        """Minutes until it is at least that good for the first time."""
        times = (time for time, found in zip(self.minutes, self.values[figure], strict=True) if found >= value)
        return next(times, None)


def render(folder: Path, *, pictures: int, tests: int, size: int, seed: int, dusk: bool) -> Path:
    """Summer and winter, by day or its winter at dusk."""
    for path in write_dataset(folder, train=pictures, test=tests, size=size, seed=seed):
        if dusk and path.parent.name in ("trainB", "testB", "truthB"):
            write_image(path, np.rint(read_image(path) * DUSK).astype(np.uint8))
    return folder


def settings(data: Path, minutes: float, arguments: argparse.Namespace, rate: float = 1.0) -> dict[str, object]:
    return {
        "data": str(data),
        "size": arguments.size,
        "generator.width": arguments.width,
        "generator.blocks": 4,
        "discriminator.width": arguments.width,
        "optimiser.learning_rate": LEARNING_RATE * rate,
        "schedule.minutes": minutes,
        "output.evaluate_every": EVALUATE_EVERY,
        "output.metric": "ssim",
        "output.evaluate_on": arguments.tests,
        "output.sample_every": 10**6,
    }


def trained(run: Run, folder: Path) -> Path:
    """The last checkpoint of `run`, trained in `folder`."""
    print(f"Training {folder.name}.", flush=True)  # noqa: T201
    for _ in fit(run.config, open_data(run.config).pairs, folder, start=run.start):
        pass
    checkpoint = find_checkpoint(folder)
    assert checkpoint is not None  # the run has just ended well
    return checkpoint


def taken(base: Path, way: Way) -> WarmStart | None:
    """What `way` takes of the checkpoint `base`."""
    if way.takes == ():
        return None
    start = start_from_checkpoint(base)
    assert start is not None  # we have just written it
    if way.takes is None:
        return start
    return replace(start, networks={name: start.networks[name] for name in way.takes}, discriminator=None)


def measure(way: Way, base: Path, data: Path, folder: Path, arguments: argparse.Namespace) -> Curve:
    """Train that way and read what its evaluations said; the first is before the first step."""
    run = new_run(settings(data, arguments.minutes, arguments, way.rate), start=taken(base, way))
    device = choose_device(run.config)
    state = new_state(run.config, device, run.start.networks if run.start else {})
    first, _ = Validator(run.config, device)(state)
    trained(run, folder)
    curves = read_curves(folder)
    times = dict(zip(curves["seconds"].steps, curves["seconds"].values, strict=True))
    found = {figure: curves[f"evaluation/{figure}"] for figure in FIGURES}
    steps = found["ssim_translated"].steps
    return Curve(
        [0.0, *(times[step] / 60 for step in steps)],
        {figure: [first[figure], *curve.values] for figure, curve in found.items()},
    )


def untranslated(data: Path) -> dict[str, float]:
    """What the summer pictures themselves score."""
    from cyclegan_edge.metrics import psnr, ssim

    pairs = [(read_image(path), read_image(data / "truthB" / path.name)) for path in list_images(data / "testA")]
    scores = [(psnr(*pair), ssim(*pair)) for pair in pairs]
    return dict(zip(FIGURES, np.mean(scores, axis=0).tolist(), strict=True))


def report(curves: Mapping[str, Curve], plain: Mapping[str, float], minutes: float, head: str) -> str:
    parts = [head]
    for figure, title in FIGURES.items():
        digits = 1 if "dB" in title else 3
        rows = [
            [
                f"{mark * minutes:.2g}",
                *(f"{curve.at(figure, _until(mark, minutes)):.{digits}f}" for curve in curves.values()),
            ]
            for mark in MARKS
        ]
        goal = next(iter(curves.values())).at(figure, math.inf)
        reached = [curve.reaches(figure, goal) for curve in curves.values()]
        rows.append([f"minutes to {goal:.{digits}f}", *("never" if it is None else f"{it:.2f}" for it in reached)])
        parts.append(f"## {title}, to the true winter at dusk\n\n{table(['minutes', *curves], rows)}\n")
        parts.append(f"The summer picture itself: {plain[figure]:.{digits}f}.\n")
    return "\n".join(parts)


def _until(mark: float, minutes: float) -> float:
    """A run ends with its first step after its minutes, so the last row is what was measured last."""
    return math.inf if mark == 1.0 else mark * minutes


def draw(curves: Mapping[str, Curve], plain: Mapping[str, float], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), FIGURES.items(), strict=True):
        for label, curve in curves.items():
            axes.plot(curve.minutes, curve.values[name], label=label)
        axes.axhline(plain[name], color="grey", linestyle=":", label="summer picture itself")
        axes.set(xlabel="minutes of training", ylabel=title)
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-minutes", type=float, default=2.5)
    parser.add_argument("--minutes", type=float, default=2.2, help="of each way")
    parser.add_argument("--size", type=int, default=128, help="px, of pictures and crops")
    parser.add_argument("--width", type=int, default=16, help="of the networks")
    parser.add_argument("--pictures", type=int, default=60, help="of each season in the task")
    parser.add_argument("--base-pictures", type=int, default=150)
    parser.add_argument("--tests", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size, tests = arguments.size, arguments.tests
        days = render(folder / "days", pictures=arguments.base_pictures, tests=tests, size=size, seed=0, dusk=False)
        dusks = render(folder / "dusks", pictures=arguments.pictures, tests=tests, size=size, seed=1, dusk=True)
        base = trained(new_run(settings(days, arguments.base_minutes, arguments)), folder / "base")
        curves = {way.name: measure(way, base, dusks, folder / way.name, arguments) for way in WAYS}
        plain = untranslated(dusks)
    head = f"""# Starting from a trained model

Written by `python benchmarks/warm.py`; run it again instead of editing. One run of each way, {arguments.minutes:g} min
for {arguments.pictures} pictures of each season at {size} px, with a winter at dusk; the base had
{arguments.base_minutes:g} min, not counted, for {arguments.base_pictures} of other worlds, with a winter by day. ResNet
of width {arguments.width}, 4 blocks, learning rate {LEARNING_RATE:g}; means of {tests} test pictures.
{cpu_name()}, {torch.get_num_threads()} threads; {versions("torch")}.

![Both figures against minutes](warm.png)
"""
    text = report(curves, plain, arguments.minutes, head)
    draw(curves, plain, arguments.out / "warm.png")
    write_file(arguments.out / "warm.md", text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
