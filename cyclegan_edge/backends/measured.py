"""What `cyclegan-edge bench engines` found on a machine, as JSON that its owner can send back.

A file of these put into `recorded/` as it is tells `--engine auto` what to expect of CPUs of that class, and
`distill --device`, by the file's name, which student fits that machine.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import ConfigError, first_line
from cyclegan_edge.machine import Machine
from cyclegan_edge.schema import from_mapping, to_mapping

RECORDED = Path(__file__).with_name("recorded")

_MAX_BYTES = 1 << 20  # three hundred models
_MAX_LINE = 200  # characters of what is shown in one


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
class Measured:
    """A model, without its name, and what came of every engine."""

    architecture: str  # "resnet 16x9"
    graph_sha256: str  # of its float32 graph
    graph_bytes: int
    rows: tuple[Row, ...]  # the fastest first; none where nothing ran
    refused: dict[str, str]  # "openvino bf16": why it did not run

    @property
    def fastest(self) -> Row | None:
        """Of the engines that are within the bound of their precision; None where there is none."""
        good = (row for row in self.rows if not row.out_of_bounds)
        return min(good, key=lambda row: row.median_ms, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One machine, and the models that were run on it."""

    schema: Literal[2] = 2  # raised when a field changes its meaning
    date: str  # "2026-11-27"
    protocol: str
    machine: Machine
    versions: dict[str, str]
    size: int  # px, both sides of the picture
    threads: int  # of the engines that run on the CPU
    models: tuple[Measured, ...]


def to_json(report: Report) -> str:
    """The report as the text of a file."""
    return json.dumps(to_mapping(report), indent=1) + "\n"


def read_report(path: Path) -> Report:
    """A file that `to_json` made. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"it has more than {_MAX_BYTES} bytes")
        report = from_mapping(Report, json.loads(content))
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise ConfigError(
            f"{path} cannot be read as a report of `bench engines` ({first_line(error)}); measure again."
        ) from error
    if not report.models or not _is_sound(report):
        raise ConfigError(f"{path} holds no models, or names, sizes or times that cannot be; measure again.")
    return report


@lru_cache(maxsize=1)
def recorded() -> dict[str, Report]:
    """Every report that came with the package, by the name of its file without .json."""
    return {path.stem: read_report(path) for path in sorted(RECORDED.glob("*.json"))}


def report_of(device: str) -> Report:
    """What came with the package under that name, else what is in the file of that name. Raises ConfigError."""
    if device in recorded():
        return recorded()[device]
    if device.endswith(".json") or Path(device).is_file():
        return read_report(Path(device))
    raise ConfigError(
        f"{device!r:.80} is neither a file of `cyclegan-edge bench engines` nor a machine that was recorded; recorded "
        f"are {', '.join(recorded())}."
    )


def architecture_of(bundle: Bundle) -> str:
    """ "resnet 16x9", or as much of it as the manifest says."""
    settings = bundle.manifest.architecture
    kind, width, blocks = (settings.get(name) for name in ("kind", "width", "blocks"))
    down = settings.get("down")  # of weights from elsewhere, layer by layer
    kind, width = kind or settings.get("generator"), width or (down[0] if isinstance(down, list) and down else "?")
    return f"{kind or 'generator'} {width}x{len(blocks) if isinstance(blocks, list) else blocks or '?'}"[:60]


def _is_sound(report: Report) -> bool:
    machine, models = report.machine, report.models
    rows = [row for model in models for row in model.rows]
    shown = (report.date, machine.name, machine.cpu, *(row.device for row in rows))
    return (
        report.size > 0
        and all(text.isprintable() and len(text) <= _MAX_LINE for text in shown)
        and all(model.graph_bytes > 0 for model in models)
        and all(math.isfinite(row.median_ms) and row.median_ms > 0 for row in rows)
    )
