"""`cyclegan-edge data`: make data sets."""

from pathlib import Path
from typing import Annotated

import typer

from cyclegan_edge.cli.console import console, progress_bar

data = typer.Typer(help="Make data sets.", no_args_is_help=True)


@data.callback()
def options() -> None:
    """Make data sets."""


@data.command()
def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold anything else.")],
    train: Annotated[int, typer.Option(help="Training pictures of each season.")] = 200,
    test: Annotated[int, typer.Option(help="Test pictures of each season.")] = 40,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
) -> None:
    """Render landscapes in summer (A) and winter (B), unpaired, with the true winter of each test picture in truthB."""
    write_scenes(out, train=train, test=test, size=size, seed=seed)
    console.print(f"\nNext: [bold]cyclegan-edge train {out}[/bold]")


def write_scenes(out: Path, *, train: int, test: int, size: int, seed: int) -> None:
    """Render the data set with a progress bar."""
    from cyclegan_edge.scenes import write_dataset

    with progress_bar() as bar:
        task = bar.add_task("rendering", note="", total=2 * train + 3 * test)
        for _ in write_dataset(out, train=train, test=test, size=size, seed=seed):
            bar.advance(task)
    console.print(
        f"{train} + {train} training and {test} + {test} test pictures of {size} px are in [bold]{out}[/bold]."
    )
