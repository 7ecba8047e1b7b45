"""Options that several commands share, and how their text is read."""

import re
from typing import Annotated

import typer

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.contract import Direction, Size, WantedPrecision
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.geometry import Fit


def _check_domains(text: str | None) -> str | None:
    if text:
        from cyclegan_edge.train.data.layout import split_domains

        split_domains(text)  # here, so that a second word gets this sentence and not "unexpected extra argument"
    return text


DirectionOption = Annotated[Direction, typer.Option(help="ab: the generator that turns A into B.")]
EngineOption = Annotated[EngineName, typer.Option(help="auto: the fastest that runs here.")]
PrecisionOption = Annotated[
    WantedPrecision | None,
    typer.Option(
        help="Of the numbers inside. any: the fastest on this CPU that is within its bound.",
        show_default="fp16 on a GPU, fp32 on the CPU",
    ),
]
DomainsOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        callback=_check_domains,
        help="What A and B are, as in summer,winter, and the names of their folders.",
        show_default=False,
    ),
]
FitOption = Annotated[
    Fit,
    typer.Option(help="aspect: the short side becomes SIZE; stretch: both do; native: the picture's own size."),
]
SizeOption = Annotated[
    int | None, typer.Option(help="Pixels the model works at; smaller is faster.", show_default="as trained")
]
Yes = Annotated[bool, typer.Option("--yes", help="Rebuild an engine of another machine without asking.")]


def parse_size(text: str, option: str) -> Size:
    """ "640x480", as people say it, -> (480, 640), as arrays have it. Raises ConfigError."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise ConfigError(f"{option} is {text!r}, expected WIDTHxHEIGHT in pixels; try 640x480.")
    return int(match[2]), int(match[1])
