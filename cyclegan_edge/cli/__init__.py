"""The command `cyclegan-edge`. Each command lives in its own file; `main` is the one place where errors become text."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from cyclegan_edge.errors import CycleGanEdgeError

app = typer.Typer(
    help="CycleGAN from a folder of pictures to a live camera on a small device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cyclegan-edge {version('cyclegan-edge')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """CycleGAN from a folder of pictures to a live camera on a small device."""


def main() -> None:
    """Run the command line; a CycleGanEdgeError becomes one sentence on stderr and exit code 1."""
    try:
        app()
    except CycleGanEdgeError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {_plain(error)}")
        sys.exit(1)


def _plain(error: CycleGanEdgeError) -> str:
    from rich.markup import escape

    return escape(str(error))
