"""`cyclegan-edge bench`: what the benchmarks of a checkout measure, on this machine."""

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from cyclegan_edge.cli.console import console
from cyclegan_edge.errors import ConfigError

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


def _script(name: str) -> Path:
    """The benchmark of that name. Raises ConfigError where there is no checkout."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    if not path.is_file():
        raise ConfigError(
            "The benchmarks are part of a checkout, not of an installed wheel; clone it and type `make test`."
        )
    sys.path.insert(0, str(path.parent))  # they share modules
    return path
