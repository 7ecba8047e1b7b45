"""The largest student within a budget is found by few measurements, or in a table of another machine."""

from dataclasses import replace

import pytest

from cyclegan_edge.backends.measured import Measured, Report, Row
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.export.budget import SHAPES, largest_recorded, largest_within, measure_shape
from cyclegan_edge.machine import this_machine
from cyclegan_edge.train.networks import GeneratorConfig


def row(milliseconds: float) -> Row:
    return Row(
        engine="onnxruntime", precision="fp32", version="1", device="CPU", median_ms=milliseconds, p95_ms=milliseconds,
        per_second=1000 / milliseconds, memory_mb=1, file_bytes=1, psnr_db=99.0,
    )  # fmt: skip


@pytest.mark.parametrize("place", [0, 1, 7, len(SHAPES) - 1])
def test_the_largest_that_is_fast_enough_is_taken(place: int) -> None:
    tried: list[tuple[int, int]] = []

    def measure(config: GeneratorConfig) -> Row:
        tried.append((config.width, config.blocks))
        return row(1.0 + SHAPES.index(tried[-1]))

    config, found = largest_within(1.5 + place, measure)

    assert (config.kind, config.width, config.blocks) == ("compact", *SHAPES[place])
    assert found.median_ms == 1.0 + place
    assert len(tried) <= 4


def test_a_budget_that_nothing_meets_is_refused_with_what_the_smallest_takes() -> None:
    with pytest.raises(ConfigError, match=r"budget is 3 ms.*smallest student takes 5.0 ms"):
        largest_within(3, lambda config: row(5.0))


def table(*measured: tuple[str, float, str], size: int = 256) -> Report:
    """A report of models by name: milliseconds of one engine, and why it is out of bounds."""
    models = (
        Measured(
            architecture=name,
            graph_sha256="",
            graph_bytes=1,
            rows=(replace(row(milliseconds), out_of_bounds=wrong),),
            refused={},
        )
        for name, milliseconds, wrong in measured
    )
    machine = replace(this_machine(), name="A board")
    return Report(
        date="2026-11-27", protocol="", machine=machine, versions={}, size=size, threads=2, models=tuple(models)
    )


TABLE = table(
    ("resnet 64x9", 1.0, ""),
    ("compact 64x8", 20.0, ""),
    ("compact 16x3", 3.0, ""),
    ("compact 32x6", 16.0, ""),
    ("compact 32x4", 18.0, ""),  # slower than what costs more: that happens
    ("compact 48x5", 9.0, "is 30.0 dB from PyTorch"),
    ("compact 40x6", 2.0, ""),  # somebody's own
    ("compact 64x8", 17.0, ""),
)


@pytest.mark.parametrize(
    ("milliseconds", "shape", "took"), [(100, (64, 8), 17.0), (16, (32, 6), 16.0), (15, (16, 3), 3.0)]
)
def test_the_costliest_shape_of_a_table_that_is_fast_enough_is_taken(
    milliseconds: float, shape: tuple[int, int], took: float
) -> None:
    config, found = largest_recorded(milliseconds, TABLE, size=256)

    assert (config.kind, config.width, config.blocks) == ("compact", *shape)
    assert found.median_ms == took


@pytest.mark.parametrize(
    ("milliseconds", "report", "said"),
    [
        (2.5, TABLE, r"budget is 2.5 ms, but the fastest student takes 3.0 ms with onnxruntime fp32 on A board"),
        (16, table(("compact 16x3", 3.0, ""), size=128), r"at 128 px on A board, but this one is for 256 px"),
        (16, table(("resnet 16x9", 3.0, "")), r"No student was measured on A board"),
        (16, table(("compact 16x3", 3.0, "is 30.0 dB from PyTorch")), r"No student was measured on A board"),
    ],
)
def test_a_table_that_does_not_answer_is_refused(milliseconds: float, report: Report, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        largest_recorded(milliseconds, report, size=256)


def test_each_shape_costs_more_than_the_one_before() -> None:
    def multiplications(width: int, blocks: int) -> int:  # of a picture, per 4x4 pixels
        half, detail = width // 2, width // 4
        return (432 + 18 * blocks * width + 18 * width) * width + 4 * 108 * detail + 4 * 300 * (half + detail)

    costs = [multiplications(*shape) for shape in SHAPES]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_a_shape_is_measured_through_its_export() -> None:
    found = measure_shape(GeneratorConfig(kind="compact", width=4, blocks=1), size=32, threads=1)

    assert found.median_ms > 0
    assert not found.out_of_bounds
