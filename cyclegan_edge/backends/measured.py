"""What `cyclegan-edge bench engines` found on a machine, as JSON that its owner can send back.

A file of these put into `recorded/` as it is tells `--engine auto` what to expect of CPUs of that class.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.machine import Machine
from cyclegan_edge.schema import from_mapping, to_mapping

RECORDED = Path(__file__).with_name("recorded")

_MAX_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """The model that was run, without its name."""

    architecture: str  # "resnet 16x9"
    graph_sha256: str  # of its float32 graph
    graph_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One engine in one precision."""

    engine: EngineName
    precision: Precision
    version: str
    device: str  # where it ran: "CPU, 2 threads"
    median_ms: float  # of one picture
    p95_ms: float
    per_second: float  # pictures, one after the other
    memory_mb: int  # that its process grew by, at most, from before the engine was imported
    file_bytes: int  # of what it opened; 0 where it was made anew
    psnr_db: float  # to the float32 graph
    out_of_bounds: str = ""  # why its pictures are not good enough for its precision; empty: they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What came of every engine."""

    schema: Literal[1] = 1  # raised when a field changes its meaning
    date: str  # "2026-11-27"
    protocol: str
    machine: Machine
    versions: dict[str, str]
    model: Measured
    size: int  # px, both sides of the picture
    threads: int  # of the engines that run on the CPU
    rows: tuple[Row, ...]  # the fastest first
    refused: dict[str, str]  # "openvino bf16": why it did not run


def to_json(report: Report) -> str:
    """The report as the text of a file."""
    return json.dumps(to_mapping(report), indent=1) + "\n"


def read_report(path: Path) -> Report:
    """A file that `to_json` made. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"{path} has more than {_MAX_BYTES} bytes, so it is no report of `bench engines`.")
        report = from_mapping(Report, json.loads(content))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as a report of `bench engines` ({error}); measure again.") from error
    if report.size < 1 or report.model.graph_bytes < 1 or not all(_is_time(row.median_ms) for row in report.rows):
        raise ConfigError(f"{path} has sizes or times that cannot be; measure again.")
    return report


@lru_cache(maxsize=1)
def recorded() -> tuple[Report, ...]:
    """Every report that came with the package."""
    return tuple(read_report(path) for path in sorted(RECORDED.glob("*.json")))


def _is_time(milliseconds: float) -> bool:
    return math.isfinite(milliseconds) and milliseconds > 0
