"""The command `cyclegan-edge`. Each command lives in its own file; `main` is the one place where errors become text."""

import io
import logging
import re
import sys
import warnings
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from cyclegan_edge.cli.bench import bench
from cyclegan_edge.cli.data import data
from cyclegan_edge.cli.demo import demo
from cyclegan_edge.cli.distill import distill
from cyclegan_edge.cli.doctor import doctor
from cyclegan_edge.cli.evaluate import evaluate
from cyclegan_edge.cli.export import export
from cyclegan_edge.cli.import_ import import_
from cyclegan_edge.cli.train import train
from cyclegan_edge.cli.translate import translate
from cyclegan_edge.cli.verify import verify
from cyclegan_edge.cli.webcam import webcam
from cyclegan_edge.errors import CycleGanEdgeError, first_line

EXTRAS = {  # package -> the extra that brings it
    "av": "video",
    "jinja2": "train",
    "matplotlib": "train",
    "ncnn": "ncnn",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "safetensors": "export",
    "segno": "web",
    "tensorboard": "train",
    "torch": "train,export",
    "torch_fidelity": "evaluate",
    "torchvision": "train",
    "websockets": "web",
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cyclegan-edge {version('cyclegan-edge')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """CycleGAN from a folder of pictures to a live camera on a small device."""


app.command()(train)
app.command()(distill)
app.command()(evaluate)
app.command()(export)
app.command("import")(import_)
app.command()(verify)
app.command()(webcam)
app.command()(translate)
app.command()(doctor)
app.command()(demo)
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command line; a CycleGanEdgeError becomes one sentence on stderr and exit code 1."""
    warnings.filterwarnings("ignore", module="PIL")  # what matters of a picture is in our own sentences
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that are not UTF-8, and signs that a latin-1 terminal lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except CycleGanEdgeError as error:
        _fail(str(error))
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{error.filename!s:.300} cannot be used ({error.strerror}); check its name and its permissions.")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(
            f"There is not enough memory ({first_line(error)}); choose a smaller size or batch, or end other programs."
        )
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        _fail(f"This command needs {error.name}; add it with `pip install 'cyclegan-edge[{EXTRAS[error.name]}]'`.")


def _is_out_of_memory(error: Exception) -> bool:
    """torch raises RuntimeErrors, on a GPU a class of them, on the CPU one about its allocator."""
    return isinstance(error, MemoryError) or bool(re.search(r"out of memory|can't allocate memory", str(error)))


def _fail(sentence: str) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(sentence)}")
    sys.exit(1)
