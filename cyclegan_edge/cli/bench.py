"""`cyclegan-edge bench`: what this machine is able to do; all but `engines` needs a checkout."""

import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cyclegan_edge.backends import ENGINES, MAX_THREADS
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.cli.console import console, counting
from cyclegan_edge.errors import ConfigError

if TYPE_CHECKING:
    from cyclegan_edge.backends.measured import Report

bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@bench.command()
def preprocess(
    seconds: Annotated[float, typer.Option(min=0.1, help="For each row of the tables; more is steadier.")] = 3.0,
    pillow_simd: Annotated[
        Path | None, typer.Option(help="Python of an environment that has Pillow-SIMD, if this one has not.")
    ] = None,
) -> None:
    """Resize, crop, flip to float32, and a camera's way: this package, torchvision, Pillow and OpenCV in turns."""
    path = _script("preprocess")
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    console.print(runpy.run_path(str(path))["report"](seconds, pillow_simd), markup=False)


@bench.command()
def live(
    only: Annotated[list[str] | None, typer.Option(metavar="PART", help="Of the report; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="For each figure; more is steadier.")] = 10.0,
    model: Annotated[Path | None, typer.Option(help="A bundle, for covered lenses and flicker.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with clips/, for flicker.")] = None,
    soak: Annotated[float, typer.Option(min=0, help="Minutes of the soak.")] = 1.5,
) -> None:
    """The live loop: rates, ages, recordings, streams, the page. Writes benchmarks/live.md."""
    run = runpy.run_path(str(_script("live")))["run"]
    console.print(run(parts=only, seconds=seconds, model=model, data=data, soak_minutes=soak), markup=False)


@bench.command()
def engines(
    model: Annotated[Path, typer.Argument(help="Folder of an exported model.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels, both sides of the pictures.")] = 256,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MAX_THREADS, help="Of engines on the CPU.", show_default="every core")
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="Only this one.", show_default="all but onnx-tensorrt")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Turns of each engine; more is steadier.")] = 20,
    out: Annotated[
        Path | None, typer.Option("--json", help="Also into this file, which can be sent to us.", show_default=False)
    ] = None,
) -> None:
    """Every engine and precision that runs MODEL here, in turns: time, memory, and likeness to the float32 graph."""
    from cyclegan_edge.backends.measured import to_json
    from cyclegan_edge.bench.engines import measure_engines
    from cyclegan_edge.bundle import read_bundle
    from cyclegan_edge.files import check_writable, write_file

    if out is not None:
        check_writable(out)
    with counting("measuring") as show:
        report = measure_engines(
            read_bundle(model),
            size=size,
            threads=threads or len(os.sched_getaffinity(0)),
            rounds=rounds,
            engines=(engine,) if engine else ENGINES,
            on_progress=show,
        )
    machine = report.machine
    console.print(f"{machine.cpu}, {machine.cpu_class}, {machine.cores} cores; {report.model.architecture}; {size} px")
    console.print(_engine_table(report))
    for row in report.rows:
        if row.out_of_bounds:
            console.print(f"{row.engine} {row.precision} is not good enough: it {row.out_of_bounds}.", markup=False)
    for name, reason in report.refused.items():
        console.print(f"{name} did not run: {reason}", markup=False)
    if out is not None:
        write_file(out, to_json(report))
        console.print(f"All of it is in [bold]{escape(str(out))}[/bold].")


def _engine_table(report: "Report") -> Table:
    """A line for each engine and precision, 80 columns wide at most."""
    numbers = ("thr", "p50 ms", "p95 ms", "per s", "RAM MB", "file MB", "PSNR")
    table = Table("engine", "", *(Column(it, justify="right") for it in numbers), box=None, pad_edge=False)
    for row in report.rows:
        table.add_row(
            row.engine,
            row.precision,
            str(report.threads) if row.device.startswith("CPU") else "-",
            f"{row.median_ms:.1f}",
            f"{row.p95_ms:.1f}",
            f"{row.per_second:.1f}",
            str(row.memory_mb),
            f"{row.file_bytes / 1e6:.1f}",
            f"{row.psnr_db:.1f} dB{'!' if row.out_of_bounds else ''}",
        )
    return table


def _script(name: str) -> Path:
    """The benchmark of that name. Raises ConfigError where there is no checkout."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    if not path.is_file():
        raise ConfigError(
            "The benchmarks are part of a checkout, not of an installed wheel; clone it and type `make test`."
        )
    sys.path.insert(0, str(path.parent))  # they share modules
    return path
