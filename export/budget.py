"""The largest student that a machine can run in so many milliseconds, found by measuring.

Students of the compact kind differ in width and blocks. Each that is tried is exported with random weights, which cost
what trained ones cost, and run by every engine that is installed; the fastest counts. For another machine, what
`cyclegan-edge bench engines` wrote there stands in for trying.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from cyclegan_edge.backends.candidates import is_installed
from cyclegan_edge.backends.measured import Report, Row
from cyclegan_edge.bench.engines import OnProgress, measure_engines
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.errors import ConfigError, ExportError
from cyclegan_edge.export.config import ExportConfig
from cyclegan_edge.export.parity import OnVerdict, raise_failed
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
        config = _compact(*SHAPES[middle])
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


def largest_recorded(milliseconds: float, report: Report, *, size: int) -> tuple[GeneratorConfig, Row]:
    """The shape with the most multiply-adds that was as fast as that on the machine of the report, at `size` px.

    Only what was measured counts. Raises ConfigError when that is another size, no shape, or none so fast.
    """
    name = report.machine.name
    if report.size != size:
        raise ConfigError(
            f"The students are measured at {report.size} px on {name}, but this one is for {size} px; add "
            f"--size {report.size}, or measure there with --size {size}."
        )
    found: dict[tuple[int, int], Row] = {}
    for width, blocks in SHAPES:
        models = (model for model in report.models if model.architecture == f"compact {width}x{blocks}")
        rows = [model.fastest for model in models if model.fastest]
        if rows:
            found[width, blocks] = min(rows, key=lambda row: row.median_ms)
    if not found:
        raise ConfigError(
            f"No student was measured on {name} that an engine runs within its bounds; measure them there with "
            f"`cyclegan-edge bench engines --shapes --json FILE`."
        )
    within = [shape for shape, row in found.items() if row.median_ms <= milliseconds]
    if not within:
        fastest = min(found.values(), key=lambda row: row.median_ms)
        raise ConfigError(
            f"The budget is {milliseconds:g} ms, but the fastest student takes {fastest.median_ms:.1f} ms with "
            f"{fastest.engine} {fastest.precision} on {name}; give more."
        )
    return _compact(*within[-1]), found[within[-1]]


def measure_shape(config: GeneratorConfig, *, size: int, threads: int) -> Row:
    """The fastest engine for a generator of this shape, at `size` px. Raises ExportError when it cannot be exported."""
    with tempfile.TemporaryDirectory(prefix="cyclegan-edge-") as folder:
        bundle = _export(config, Path(folder, "student"), ExportConfig(compare=1))
        (model,) = measure_engines([bundle], size=size, threads=threads, rounds=_ROUNDS).models
    if model.fastest is None:
        raise ExportError("No engine runs a student within its bounds here; see `cyclegan-edge doctor`.")
    return model.fastest


def export_shapes(folder: Path, on_progress: OnProgress = lambda done, total, note: None) -> list[Bundle]:
    """A bundle of each of SHAPES in `folder`, with all that engines can be had from where no torch is.

    Float32 and float16, for ncnn too where that is installed; what is out of bounds is left out of a bundle. Raises
    ExportError when a float32 graph cannot be made or written.
    """
    config = ExportConfig(compare=1, fp16=True, ncnn=is_installed("ncnn"))
    bundles = []
    for number, (width, blocks) in enumerate(SHAPES):
        on_progress(number, len(SHAPES), f"compact {width}x{blocks}")
        path = folder / f"compact-{width}x{blocks}"
        bundles.append(_export(_compact(width, blocks), path, config, on_verdict=lambda verdict: None))
    return bundles


def _compact(width: int, blocks: int) -> GeneratorConfig:
    return GeneratorConfig(kind="compact", width=width, blocks=blocks)


def _export(shape: GeneratorConfig, folder: Path, config: ExportConfig, on_verdict: OnVerdict = raise_failed) -> Bundle:
    """`folder` as a bundle of a generator of that shape with random weights."""
    generator = new_generator(shape)
    init_weights(generator, torch.Generator().manual_seed(0), "xavier", 1.0)
    with tempfile.TemporaryDirectory(prefix="cyclegan-edge-") as name:
        weights = Path(name, "student.pth")
        torch.save(generator.state_dict(), weights)
        return export_checkpoint(weights, folder, config, on_verdict=on_verdict)
