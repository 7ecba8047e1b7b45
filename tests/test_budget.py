"""The largest student within a budget is found by few measurements."""

import pytest

from cyclegan_edge.backends.measured import Row
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.export.budget import SHAPES, largest_within, measure_shape
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
