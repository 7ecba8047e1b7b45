"""`cyclegan-edge bench`: what this machine is able to do; all but `engines` needs a checkout."""

import os
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cyclegan_edge.backends import ENGINES, MAX_THREADS
from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.cli.console import console, counting
from cyclegan_edge.contract import MULTIPLE
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.geometry import check_fit

if TYPE_CHECKING:
    from cyclegan_edge.backends.measured import Report, Row
    from cyclegan_edge.bundle import Bundle

_ROUNDS, _ROUNDS_OF_MANY = 20, 5  # of `engines`: two seconds for each engine, or a half

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
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL", help="Folders of exported models.", show_default=False)
    ] = None,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Also every shape of student that `distill --budget` chooses from.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Folder to leave the models of the shapes in, for devices without torch.")
    ] = None,
    size: Annotated[int, typer.Option(min=8, help="Pixels, both sides of the pictures.")] = 256,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MAX_THREADS, help="Of engines on the CPU.", show_default="every core")
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="Only this one.", show_default="all but onnx-tensorrt")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Turns of each engine; more is steadier.",
            show_default="20; 5 with each of several models",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", help="Also into this file, which can be sent to us.", show_default=False)
    ] = None,
) -> None:
    """Every engine and precision that runs each MODEL here, in turns: time, memory, likeness to the float32 graph.

    Of several models the fastest engine of each is shown; the file holds all, and `distill --device FILE` reads it.
    """
    from cyclegan_edge.backends.measured import to_json
    from cyclegan_edge.bench.engines import measure_engines
    from cyclegan_edge.bundle import read_bundle
    from cyclegan_edge.files import check_writable, write_file

    if keep is not None and not shapes:
        raise ConfigError("--keep is about the models of the shapes, but none are to be made; add --shapes.")
    if not (models or shapes):
        raise ConfigError("There is nothing to measure; name the folder of an exported model, or add --shapes.")
    if out is not None:
        check_writable(out)
    bundles = [read_bundle(model) for model in models or ()]
    with TemporaryDirectory(prefix="cyclegan-edge-") as folder:
        if shapes:
            bundles += _export_shapes(keep or Path(folder), size)
        with counting("measuring") as show:
            report = measure_engines(
                bundles,
                size=size,
                threads=threads or len(os.sched_getaffinity(0)),
                rounds=rounds or (_ROUNDS if len(bundles) == 1 else _ROUNDS_OF_MANY),
                engines=(engine,) if engine else ENGINES,
                on_progress=show,
            )
    _print_report(report)
    if out is not None:
        write_file(out, to_json(report))
        console.print(f"All of it is in [bold]{escape(str(out))}[/bold].")


def _export_shapes(folder: Path, size: int) -> "list[Bundle]":
    """The bundles of all shapes, made in `folder` for pictures of `size` px, which is checked first."""
    check_fit("stretch", size, MULTIPLE)
    try:
        from cyclegan_edge.export.budget import export_shapes
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--shapes makes models, which needs {error.name}; make them elsewhere with `cyclegan-edge bench engines "
            f"--shapes --keep FOLDER`, copy that here, and name the folders in it, or `pip install "
            f"'cyclegan-edge[train,export]'`."
        ) from error
    with counting("making models") as show:
        return export_shapes(folder, show)


def _print_report(report: "Report") -> None:
    """The machine and its engines; of several models the fastest engine each."""
    machine, models = report.machine, report.models
    about = models[0].architecture if len(models) == 1 else f"{len(models)} models"
    console.print(f"{machine.cpu}, {machine.cpu_class}, {machine.cores} cores; {about}; {report.size} px", markup=False)
    if len(models) > 1:
        console.print(_model_table(report))
        return
    console.print(_engine_table(report))
    for row in models[0].rows:
        if row.out_of_bounds:
            console.print(f"{row.engine} {row.precision} is not good enough: it {row.out_of_bounds}.", markup=False)
    for name, reason in models[0].refused.items():
        console.print(f"{name} did not run: {reason}", markup=False)


def _model_table(report: "Report") -> Table:
    """A line for each model: its fastest engine within its bounds."""
    numbers = ("p50 ms", "p95 ms", "per s", "RAM MB", "PSNR")
    table = Table("model", "engine", "", *(Column(it, justify="right") for it in numbers), box=None, pad_edge=False)
    for model in report.models:
        cells = _cells(model.fastest) if model.fastest else ("none within its bounds",)
        table.add_row(escape(model.architecture), *cells)
    return table


def _engine_table(report: "Report") -> Table:
    """A line for each engine and precision, 80 columns wide at most."""
    numbers = ("thr", "p50 ms", "p95 ms", "per s", "RAM MB", "file MB", "PSNR")
    table = Table("engine", "", *(Column(it, justify="right") for it in numbers), box=None, pad_edge=False)
    for row in report.models[0].rows:
        name, precision, *times, memory, likeness = _cells(row)
        where = str(report.threads) if row.device.startswith("CPU") else "-"
        table.add_row(name, precision, where, *times, memory, f"{row.file_bytes / 1e6:.1f}", likeness)
    return table


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.engine,
        row.precision,
        f"{row.median_ms:.1f}",
        f"{row.p95_ms:.1f}",
        f"{row.per_second:.1f}",
        str(row.memory_mb),
        f"{row.psnr_db:.1f} dB{'!' if row.out_of_bounds else ''}",
    )


def _script(name: str) -> Path:
    """The benchmark of that name. Raises ConfigError where there is no checkout."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    if not path.is_file():
        raise ConfigError(
            "The benchmarks are part of a checkout, not of an installed wheel; clone it and type `make test`."
        )
    sys.path.insert(0, str(path.parent))  # they share modules
    return path
