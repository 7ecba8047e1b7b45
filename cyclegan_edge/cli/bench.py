"""`cyclegan-edge bench`: what the benchmarks of a checkout measure, on this machine."""

import runpy
from pathlib import Path
from typing import Annotated

import typer

from cyclegan_edge.cli.console import console
from cyclegan_edge.errors import ConfigError

bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@bench.callback()
def options() -> None:
    """Measure this machine."""


@bench.command()
def preprocess(
    seconds: Annotated[float, typer.Option(min=0.1, help="For each row of the tables; more is steadier.")] = 3.0,
) -> None:
    """Resize, crop, flip to float32: this package, torchvision, Pillow and OpenCV in turns."""
    path = Path(__file__).parents[2] / "benchmarks" / "preprocess.py"
    if not path.is_file():
        raise ConfigError(
            "The benchmarks are part of a checkout, not of an installed wheel; clone it and type `make test`."
        )
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    console.print(runpy.run_path(str(path))["report"](seconds), markup=False)
