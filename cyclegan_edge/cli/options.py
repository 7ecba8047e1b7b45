"""Options that several commands share, and how their text is read."""

import re
from typing import Annotated

import typer

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import ConfigError

Yes = Annotated[bool, typer.Option("--yes", help="Rebuild an engine of another machine without asking.")]


def parse_size(text: str, option: str) -> Size:
    """ "640x480", as people say it, -> (480, 640), as arrays have it. Raises ConfigError."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise ConfigError(f"{option} is {text!r}, expected WIDTHxHEIGHT in pixels; try 640x480.")
    return int(match[2]), int(match[1])
