"""The largest student that a machine can run in so many milliseconds, found by measuring.

Students of the compact kind differ in width and blocks. Each that is tried is exported with random weights, which cost
what trained ones cost, and run by every engine that is installed; the fastest counts.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from cyclegan_edge.backends.measured import Row
from cyclegan_edge.bench.engines import measure_engines
from cyclegan_edge.errors import ConfigError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.pipeline import export_checkpoint
from cyclegan_edge.train.networks import GeneratorConfig, init_weights, new_generator

SHAPES = (  # width and blocks, each costlier than the one before: 0.2 to 10 billion multiply-adds at 256x256
    *((16, 3), (16, 6), (24, 4), (32, 4), (32, 6), (32, 9), (48, 5), (48, 8)),
    *((64, 6), (64, 8), (80, 7), (80, 9), (96, 8), (112, 8), (128, 9)),
)

_ROUNDS = 5  # turns of each engine: half a second

Measure = Callable[[GeneratorConfig], Row]


def largest_within(milliseconds: float, measure: Measure) -> tuple[GeneratorConfig, Row]:
    """The shape with the most multiply-adds that `measure` finds to be as fast as that; halves the list at each try.

    Raises ConfigError when the smallest is slower.
    """
    best: tuple[GeneratorConfig, Row] | None = None
    low, high = 0, len(SHAPES) - 1
    while low <= high:
        middle = (low + high) // 2
        width, blocks = SHAPES[middle]
        config = GeneratorConfig(kind="compact", width=width, blocks=blocks)
        row = measure(config)
        if row.median_ms <= milliseconds:
            best, low = (config, row), middle + 1
        else:
            slowest, high = row, middle - 1
    if best is None:
        raise ConfigError(
            f"The budget is {milliseconds:g} ms, but the smallest student takes {slowest.median_ms:.1f} ms with "
            f"{slowest.engine} {slowest.precision}; give more, or a smaller --size."
        )
    return best


def measure_shape(config: GeneratorConfig, *, size: int, threads: int) -> Row:
    """The fastest engine for a generator of this shape, at `size` px. Raises ExportError when it cannot be exported."""
    generator = new_generator(config)
    init_weights(generator, torch.Generator().manual_seed(0), "xavier", 1.0)
    with tempfile.TemporaryDirectory(prefix="cyclegan-edge-") as folder:
        weights = Path(folder, "student.pth")
        torch.save(generator.state_dict(), weights)
        bundle = export_checkpoint(weights, Path(folder, "student"), ExportConfig(compare=1))
        report = measure_engines(bundle, size=size, threads=threads, rounds=_ROUNDS)
    good = [row for row in report.rows if not row.out_of_bounds]
    if not good:
        raise ExportError("No engine runs a student within its bounds here; see `cyclegan-edge doctor`.")
    return good[0]
