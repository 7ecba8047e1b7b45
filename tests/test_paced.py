"""Sources in time, with a clock that moves only when told."""

from collections.abc import Sequence

import numpy as np
import pytest

from cyclegan_edge.errors import SourceError
from cyclegan_edge.video.frames import Frame
from cyclegan_edge.video.paced import Looped, Paced


class FakeClock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


class FakeSource:
    """Frames with the given indices, captured `age` s before they are read, each after `wait` s."""

    name, size, fps, live, stamp = "fake", (4, 8), 10.0, False, "it was made up"

    def __init__(
        self,
        indices: Sequence[int],
        clock: FakeClock,
        *,
        wait: float = 0.0,
        age: float = 0.0,
        then: Exception | None = None,
    ) -> None:
        self.length: int | None = len(indices)
        self.closed = False
        self._indices, self._clock, self._wait, self._age, self._then = iter(indices), clock, wait, age, then

    def read(self) -> Frame | None:
        self._clock.move(self._wait)
        index = next(self._indices, None)
        if index is not None:
            return Frame(np.full((4, 8, 3), index, np.uint8), self._clock() - self._age, index)
        if self._then is not None:
            raise self._then
        return None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_paced_source_gives_each_frame_when_it_is_due(clock: FakeClock) -> None:
    paced = Paced(FakeSource(range(3), clock, wait=0.01), clock=clock, sleep=clock.move)

    given, captured = zip(*[(clock(), frame.captured) for frame in iter(paced.read, None)], strict=True)

    assert given == captured == pytest.approx((100.01, 100.11, 100.21))


def test_a_source_slower_than_its_rate_is_not_made_to_catch_up(clock: FakeClock) -> None:
    paced = Paced(FakeSource(range(4), clock, wait=0.25), clock=clock, sleep=clock.move)  # 4 fps, stated as 10

    ages = [clock() - frame.captured for frame in iter(paced.read, None)]

    assert ages == pytest.approx([0.0] * 4)


def test_a_looped_source_begins_again_and_counts_on(clock: FakeClock) -> None:
    opened: list[FakeSource] = []

    def reopen() -> FakeSource:
        opened.append(FakeSource(range(3), clock))
        return opened[-1]

    looped = Looped(reopen)
    frames = [looped.read() for _ in range(7)]

    assert [frame.index for frame in frames] == list(range(7))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert [source.closed for source in opened] == [True, True, False]


def test_a_looped_source_that_became_empty_is_refused(clock: FakeClock) -> None:
    lengths = iter([1, 0])
    looped = Looped(lambda: FakeSource(range(next(lengths)), clock))
    looped.read()

    with pytest.raises(SourceError, match="fake holds no frame any more"):
        looped.read()
