"""The numbers of a run."""

from collections.abc import Iterator, Sequence

import pytest

from cyclegan_edge.video.timings import FrameTiming, Stages, Timings


def timings_of(ages: Sequence[float]) -> Iterator[FrameTiming]:
    """One frame per second, the last one dropped each time."""
    for second, age in enumerate(ages, start=1):
        yield FrameTiming(float(second), 1, Stages(wait=0.9, prepare=0.02, run=0.06, restore=0.01, show=0.01, age=age))


def test_the_summary_gives_rate_drops_median_and_percentile() -> None:
    timings = Timings()

    for timing in timings_of([0.1] * 18 + [0.2, 0.3]):
        timings.add(timing)
    summary = timings.summary()

    assert (summary.frames, summary.dropped) == (20, 20)
    assert summary.seconds == pytest.approx(20.0)
    assert summary.fps == pytest.approx(1.0)
    assert summary.median.age == pytest.approx(100.0)
    assert summary.p95.age == pytest.approx(205.0)
    assert summary.median.run == pytest.approx(60.0)


def test_the_summary_of_no_frame_is_all_zeros() -> None:
    summary = Timings().summary()

    assert (summary.frames, summary.fps, summary.median.age) == (0, 0.0, 0.0)


def test_recent_numbers_forget_old_frames() -> None:
    timings = Timings()

    for timing in timings_of([9.0] * 40 + [0.5] * 30):
        timings.add(timing)
    recent = timings.recent()

    assert recent.median.age == pytest.approx(500.0)
    assert recent.fps == pytest.approx(1.0)
    assert recent.frames == 70
