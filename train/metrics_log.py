"""runs/<name>/metrics.jsonl: what a run measured, one JSON object a line, appended while it trains.

    {"step": 20, "seconds": 31.2, "loss/cycle_a": 0.41, "learning_rate": 0.0002, "memory_gib": 1.9}

`step` counts the steps taken, `seconds` the time in training. The other names are TensorBoard's tags; null stands for
a value that was not finite. A line that a killed process left unfinished is passed over.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cyclegan_edge.files import atomic_file

NAME = "metrics.jsonl"

_LINES, _LINE_BYTES, _TAGS = 500_000, 1 << 16, 100  # of a file that is read, at most
_HIGHEST_STEP, _HIGHEST_VALUE = 1 << 53, 1e30  # beyond them arithmetic on a chart would overflow


@dataclass(frozen=True, slots=True)
class Curve:
    """One tag of a run, each step once."""

    steps: npt.NDArray[np.int64]  # (n,), rising, n > 0
    values: npt.NDArray[np.float64]  # (n,), NaN where the value was not finite


class MetricsLog:
    """Appends to the file of a run that has taken `step` steps; lines of later steps belong to a past that is undone.

    They are there when the process died after its last checkpoint, or when an earlier checkpoint is continued from.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        path = run / NAME
        if path.is_file():
            with atomic_file(path) as partial, partial.open("wb") as kept:
                kept.writelines(line.strip() + b"\n" for line, entry in _entries(path) if entry["step"] <= step)
        self._file = path.open("a", encoding="utf-8")

    def write(self, *, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """One line, handed to the operating system at once."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, "seconds": round(seconds, 3), **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def read_curves(run: Path) -> dict[str, Curve]:
    """Every tag of a run, `seconds` among them, in the order of the file; {} when there is no file.

    A step that was written twice counts once, as it was written last. A second per 100,000 lines or so.
    """
    points: dict[str, tuple[list[int], list[float]]] = {}
    for _, entry in islice(_entries(run / NAME), _LINES):
        step = entry.pop("step")
        for tag, value in entry.items():
            if tag in points or len(points) < _TAGS:
                steps, values = points.setdefault(tag, ([], []))
                steps.append(step)
                values.append(_number(value))
    return {tag: _curve(*found) for tag, found in points.items()}


def _entries(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Every line that is an entry, and that entry."""
    if path.is_file():
        with path.open("rb") as file:
            for line in iter(lambda: file.readline(_LINE_BYTES), b""):
                if entry := _parse(line):
                    yield line, entry


def _parse(line: bytes) -> dict[str, Any] | None:
    """An entry with a sensible step; None for what is no entry."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return entry if type(step) is int and 0 <= step < _HIGHEST_STEP else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < _HIGHEST_VALUE else math.nan


def _curve(steps: list[int], values: list[float]) -> Curve:
    order = np.argsort(steps, kind="stable")
    rising = np.asarray(steps, np.int64)[order]
    last = np.append(np.diff(rising) > 0, True)
    return Curve(rising[last], np.asarray(values, np.float64)[order][last])
