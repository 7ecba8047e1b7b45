"""Small generators: how good they are against how fast they are. Writes small.md and its plot.

    python benchmarks/small.py TEACHER DATA [--tier 80x9 --tier 48x8] [--minutes 4] [--batch 16] [--work small]
    python benchmarks/small.py TEACHER DATA --student "64x8=runs/horse2zebra-small"    # one that is there already
    ... --shapes shapes.json    # what to choose from, by `cyclegan-edge bench engines --shapes --json shapes.json`
    ... --judge judge.pt        # a second judge, by judge.py

Each tier is distilled for so many minutes, exported, run by every engine in turns, and measured on the test pictures
of DATA by KID and the Frechet distance in EfficientNet-Lite2's features; so are the teacher and the pictures as they
are. The contact sheet, which shows pictures of DATA, stays in the folder of the runs. The report is written after
each tier, so a lease that ends loses the last one alone. Two tiers of four minutes fit into ten on a GPU; there the
engines of the host's CPU are what is timed, unless TensorRT is installed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from machine import cpu_name, table, versions
from matplotlib.figure import Figure

from cyclegan_edge.backends.measured import Row, read_report
from cyclegan_edge.contract import Picture
from cyclegan_edge.files import atomic_file, write_file
from cyclegan_edge.images import write_image
from cyclegan_edge.train.checkpoint_files import find_checkpoint
from cyclegan_edge.train.distill.state import check_distillation, distill_config_of, is_distillation
from cyclegan_edge.train.evaluate.features import ReferenceFeatures, open_network
from cyclegan_edge.train.evaluate.quality import PictureSets, find_sets, reference_of
from cyclegan_edge.train.torch_file import read_torch_file
from cyclegan_edge.translator import Translator

FEATURES = "efficientnet-lite2"
HEAD = (
    "generator",
    "KID x 1000",
    "Frechet",
    "Frechet, second judge",
    "ms, median / p95",
    "engine",
    "minutes of distillation",
)
SHOWN = 8  # columns of the contact sheet
PUBLISHED = ("GAN Compression's published student", 30.0, 59.7)  # ms on two cores of a Sapphire Rapids; KID x 1000


@dataclass(frozen=True)
class Measured:
    """One generator, or the pictures as they are."""

    name: str
    kid: float  # x 1000
    kid_deviation: float
    frechet: float
    second: float | None  # Frechet distance in the features of the second judge; None: there is none
    row: Row | None  # the fastest engine within its bounds; None: nothing runs
    minutes: float = 0.0  # of distillation, over all its pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tier", action="append", help="WIDTHxBLOCKS; 80x9 and 48x8")
    parser.add_argument("--student", action="append", default=[], help="NAME=RUN that is there already")
    parser.add_argument("--minutes", type=float, default=4.0, help="of each tier")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, help="at most so many test pictures")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=20, help="turns of each engine")
    parser.add_argument("--shapes", type=Path, help="what `bench engines --shapes` found here")
    parser.add_argument("--judge", type=Path, help="TorchScript network whose features are a second judge")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the distillation")
    parser.add_argument("--work", type=Path, default=Path("small"), help="folder of the runs and bundles")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the report")
    options = parser.parse_args()
    teacher, data = options.teacher.resolve(), options.data.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    sets = find_sets(data, size=options.size, most=options.images)
    judges = [Path(FEATURES), *([options.judge] if options.judge else [])]
    references = [reference_of(open_network(judge, size=options.size, device=_device()), sets) for judge in judges]
    pictures = [sets.load(path) for path in sets.sources]
    found = [_judged("as they are", pictures, references, None)]
    columns = {"pictures": pictures[:SHOWN]}

    def add(name: str, bundle: Path, minutes: float = 0.0) -> None:
        report = options.work / f"{name}.json"
        threads, rounds = str(options.threads), str(options.rounds)
        _run(options.work, "bench", "engines", str(bundle), "--size", str(options.size), "--threads", threads,
             "--rounds", rounds, "--json", str(report.resolve()))  # fmt: skip
        (model,) = read_report(report).models
        translator = Translator.load(options.work / bundle, fit="stretch", size=options.size)
        translated = [translator(picture) for picture in pictures]
        found.append(_judged(name, translated, references, model.fastest, minutes))
        columns[name] = translated[:SHOWN]
        _write(options.out, found, columns, sets, options)

    _run(options.work, "export", str(teacher), "--name", "teacher", "--pictures", str(sets.source))
    add("teacher", Path("models/teacher"))
    for name, _, run in (student.partition("=") for student in options.student):
        _export(options.work, Path(run).resolve(), name, sets)
        add(name, Path("models") / name, _minutes_of(Path(run)))
    for tier in options.tier or ([] if options.student else ["80x9", "48x8"]):
        width, blocks = tier.split("x")
        settings = [f"generator.width={width}", f"generator.blocks={blocks}", *options.set]
        sizes = "--minutes", str(options.minutes), "--size", str(options.size), "--batch", str(options.batch)
        chosen = (f"--set={one}" for one in settings)
        _run(options.work, "distill", str(teacher), str(data), "--name", tier, *sizes, *chosen)
        _export(options.work, Path("runs", tier), tier, sets)
        add(tier, Path("models") / tier, options.minutes)


def _judged(
    name: str,
    pictures: Sequence[Picture],
    references: Sequence[ReferenceFeatures],
    row: Row | None,
    minutes: float = 0.0,
) -> Measured:
    first, *others = (reference.distance_to(pictures) for reference in references)
    second = others[0].fid if others else None
    return Measured(name, 1000 * first.kid, 1000 * first.kid_deviation, first.fid, second, row, minutes)


def _export(work: Path, run: Path, name: str, sets: PictureSets) -> None:
    eight_bits = "--int8", "--calibrate", str(sets.source)
    _run(work, "export", str(run), "--name", name, "--pictures", str(sets.source), *eight_bits)


def _minutes_of(run: Path) -> float:
    """Those of the student in `run`, and of the students that it started from, as far as they are still there."""
    minutes, checkpoint = 0.0, find_checkpoint(run)
    while checkpoint and checkpoint.is_file():
        if not is_distillation(read := read_torch_file(checkpoint)):
            break
        content = check_distillation(read, checkpoint)
        minutes += content["seconds"] / 60
        origin = distill_config_of(content, checkpoint).origin
        checkpoint = Path(origin.file) if origin else None
    return minutes


def _run(work: Path, *arguments: str) -> None:
    sys.stderr.write(f"cyclegan-edge {' '.join(arguments)}\n")
    subprocess.run([sys.executable, "-m", "cyclegan_edge", *arguments], cwd=work, check=True)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _write(
    out: Path,
    found: Sequence[Measured],
    columns: dict[str, list[Picture]],
    sets: PictureSets,
    options: argparse.Namespace,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_image(options.work / "sheet.png", np.vstack([np.hstack(row) for row in columns.values()]))
    write_file(out / "small.json", json.dumps([asdict(one) for one in found], indent=1) + "\n")
    _plot(out / "small.png", found)
    rows = [
        (
            one.name,
            f"{one.kid:.1f} ± {one.kid_deviation:.1f}",
            f"{one.frechet:.1f}",
            f"{one.second:.1f}" if one.second is not None else "",
            f"{one.row.median_ms:.1f} / {one.row.p95_ms:.1f}" if one.row else "",
            f"{one.row.engine} {one.row.precision}" if one.row else "",
            f"{one.minutes:.0f}" if one.minutes else "",
        )
        for one in found
    ]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cpu_name()}, {options.threads} threads"
    write_file(
        out / "small.md",
        f"""# Small generators

{table(HEAD, rows)}

![KID against milliseconds](small.png)

KID (torch-fidelity's, subsets of the smaller set) and the Frechet distance in the features of {FEATURES}, of
{len(sets.sources)} test pictures against {len(sets.targets)} real ones of the other domain at {sets.size} px; figures
in these features compare with each other alone. The second judge is a small network that learned on the training
pictures to tell the two domains apart (judge.py). Students were distilled at batch {options.batch}. Times are of the
fastest engine within its bounds, one picture at a time, uint8 in and out, engines in turns (`bench engines`), by
{where}; {versions("torch")}. {PUBLISHED[0]} had {PUBLISHED[2]} on the test pictures of
horse2zebra in the same features, at {PUBLISHED[1]:g} ms on two cores of another machine.

{_engines(options, [one.name for one in found if one.row])}
{_shapes(options.shapes)}
Made by `python benchmarks/small.py TEACHER DATA`.
""",
    )


def _engines(options: argparse.Namespace, names: Sequence[str]) -> str:
    """The table of every engine, for each generator that was run."""
    parts = ["## Engines, ms\n"]
    for name in names:
        (model,) = read_report(options.work / f"{name}.json").models
        rows = [
            (row.engine, row.precision, f"{row.median_ms:.1f}", f"{row.p95_ms:.1f}", f"{row.per_second:.1f}",
             str(row.memory_mb), f"{row.file_bytes / 1e6:.1f}", f"{row.psnr_db:.1f}", row.out_of_bounds)
            for row in model.rows
        ]  # fmt: skip
        head = (
            "engine",
            "",
            "median",
            "p95",
            "pictures/s",
            "memory, MB",
            "file, MB",
            "PSNR to float32, dB",
            "out of bounds",
        )
        parts.append(f"### {name}: {model.architecture}\n\n{table(head, rows)}\n")
    return "\n".join(parts)


def _shapes(path: Path | None) -> str:
    """The shapes that there are, by what the fastest engine takes."""
    if path is None:
        return ""
    report = read_report(path)
    rows = [
        (model.architecture.removeprefix("compact "), f"{model.graph_bytes / 4e6:.2f}",
         f"{model.fastest.median_ms:.1f}", f"{model.fastest.engine} {model.fastest.precision}")
        for model in report.models if model.fastest
    ]  # fmt: skip
    head = "width x blocks", "million weights", "ms, fastest engine", "which"
    return f"""## The shapes to choose from

Random weights, which cost what trained ones cost; {report.size} px, {report.threads} threads, {report.date}. No int8:
only trained weights meet its bound.

{table(head, rows)}
"""


def _plot(path: Path, found: Sequence[Measured]) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for one in found:
        if one.row is None:
            axes.axhline(one.kid, color="grey", linestyle=":")
            axes.annotate(one.name, (0.01, one.kid), xycoords=("axes fraction", "data"), va="top", color="grey")
        else:
            axes.plot(one.row.median_ms, one.kid, "o")
            axes.annotate(
                one.name, (one.row.median_ms, one.kid), xytext=(0, 6), textcoords="offset points", ha="center"
            )
    name, milliseconds, kid = PUBLISHED
    axes.plot(milliseconds, kid, "x", color="grey")
    axes.annotate(name, (milliseconds, kid), xytext=(0, 8), textcoords="offset points", color="grey")
    axes.set(
        xscale="log", xlabel="ms a picture, fastest engine", ylabel="KID x 1000, smaller is better", ylim=(0, None)
    )
    axes.set_xlim(axes.get_xlim()[0] / 1.3, axes.get_xlim()[1] * 1.3)
    axes.xaxis.set_major_formatter("{x:g}")
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


if __name__ == "__main__":
    main()
