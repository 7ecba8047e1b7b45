"""The loop, its numbers and the newest-frame thread, with a fake clock: nothing here waits or measures."""

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import SourceError
from cyclegan_edge.video import overlay
from cyclegan_edge.video.frames import BgrPicture, Frame
from cyclegan_edge.video.loop import WARM_UP, translate_frames, warm_up
from cyclegan_edge.video.newest import Newest, Paced
from cyclegan_edge.video.timings import FrameTiming, Recent, Stages, Timings


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


class FakeTranslator:
    """Inverts; prepare, run and restore take 2, 30 and 4 ms."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.runs = 0

    def prepare(self, image: BgrPicture, *, bgr: bool = False) -> Batch:
        self._clock.move(0.002)
        return image[None, ..., ::-1] if bgr else image[None]

    def run(self, batch: Batch) -> Batch:
        self._clock.move(0.030)
        self.runs += 1
        return 255 - batch

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> BgrPicture:
        self._clock.move(0.004)
        assert batch.shape == (1, height, width, 3)
        translated: BgrPicture = batch[0, ..., ::-1] if bgr else batch[0]
        return translated


class FakeSink:
    """Keeps what it is shown, 1 ms each, and has enough after `enough` pictures."""

    def __init__(self, clock: FakeClock, *, enough: int | None = None) -> None:
        self.pictures: list[BgrPicture] = []
        self._clock, self._enough = clock, enough

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        self._clock.move(0.001)
        self.pictures.append(picture)
        return len(self.pictures) != self._enough


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_every_frame_is_translated_in_order(clock: FakeClock) -> None:
    sink = FakeSink(clock)

    list(translate_frames(FakeSource(range(5), clock), FakeTranslator(clock), sink, clock=clock))

    assert [picture[0, 0, 0] for picture in sink.pictures] == [255, 254, 253, 252, 251]


def test_each_stage_is_timed_by_the_clock(clock: FakeClock) -> None:
    source = FakeSource([0], clock, wait=0.5, age=0.020)

    (timing,) = translate_frames(source, FakeTranslator(clock), FakeSink(clock), clock=clock)

    assert timing.stages == pytest.approx(
        Stages(wait=0.5, prepare=0.002, run=0.030, restore=0.004, show=0.001, age=0.057)
    )


def test_gaps_in_the_count_are_dropped_frames(clock: FakeClock) -> None:
    source = FakeSource([2, 3, 7], clock)

    timings = list(translate_frames(source, FakeTranslator(clock), FakeSink(clock), clock=clock))

    assert [timing.dropped for timing in timings] == [2, 0, 3]


def test_the_loop_ends_after_the_wanted_frames(clock: FakeClock) -> None:
    sink = FakeSink(clock)

    list(translate_frames(FakeSource(range(9), clock), FakeTranslator(clock), sink, frames=3, clock=clock))

    assert len(sink.pictures) == 3


def test_the_loop_ends_with_the_first_frame_after_the_wanted_seconds(clock: FakeClock) -> None:
    sink = FakeSink(clock)

    list(translate_frames(FakeSource(range(9), clock, wait=1), FakeTranslator(clock), sink, seconds=2.5, clock=clock))

    assert len(sink.pictures) == 3


def test_the_loop_ends_when_the_sink_has_enough(clock: FakeClock) -> None:
    sink = FakeSink(clock, enough=2)

    timings = list(translate_frames(FakeSource(range(9), clock), FakeTranslator(clock), sink, clock=clock))

    assert len(timings) == 2


def test_a_broken_source_ends_the_loop_with_its_error(clock: FakeClock) -> None:
    source = FakeSource([0], clock, then=SourceError("The cable is out."))
    frames = translate_frames(source, FakeTranslator(clock), FakeSink(clock), clock=clock)

    next(frames)

    with pytest.raises(SourceError, match="The cable is out"):
        next(frames)


def test_warm_up_runs_the_translator_and_says_how_long(clock: FakeClock) -> None:
    translator = FakeTranslator(clock)

    seconds = warm_up(translator, (4, 8), clock=clock)

    assert translator.runs == WARM_UP
    assert seconds == pytest.approx(WARM_UP * 0.036)


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


def test_side_by_side_puts_the_input_left() -> None:
    image, translated = np.full((2, 3, 3), 1, np.uint8), np.full((2, 3, 3), 2, np.uint8)

    joined = overlay.side_by_side(image, translated)

    assert joined[..., 0].tolist() == [[1, 1, 1, 2, 2, 2]] * 2


def test_numbers_are_drawn_on_a_copy_and_leave_the_rest_alone() -> None:
    picture = np.full((360, 640, 3), 200, np.uint8)
    lines = overlay.lines_of(Recent(frames=9, dropped=4, fps=24.96, median=Stages(1, 2, 30, 4, 5, 61)))

    drawn = overlay.draw(picture, lines)

    assert lines == ["25.0 fps   latency 61 ms   dropped 4", "prepare 2.0  run 30.0  restore 4.0  show 5.0 ms"]
    assert (picture == 200).all()
    assert (drawn[:300] == 200).all()
    assert (drawn[340:, :100] != 200).any()


class GatedSource(FakeSource):
    """Lets the test decide how many frames the capture thread may read, and wait until it has."""

    def __init__(self, indices: Sequence[int], then: Exception | None = None) -> None:
        super().__init__(indices, FakeClock(), then=then)
        self._allowed = threading.Semaphore(0)
        self._asked = threading.Semaphore(0)

    def read(self) -> Frame | None:
        self._asked.release()
        self._allowed.acquire()
        return super().read()

    def let_through(self, count: int) -> None:
        """Allow `count` reads and return when the thread asks for the one after: its frames lie in the slot by then."""
        for _ in range(count):
            self._asked.acquire()
            self._allowed.release()
        self._asked.acquire()
        self._asked.release()

    def let_all_through(self) -> None:
        self._allowed.release(1000)


def test_the_newest_frame_wins() -> None:
    source = GatedSource(range(10))
    newest = Newest(source)
    newest.start()

    source.let_through(4)
    first = newest.read()
    source.let_through(2)
    second = newest.read()

    assert first is not None
    assert second is not None
    assert (first.index, second.index) == (3, 5)
    source.let_all_through()
    newest.close()


def test_a_frame_is_given_once_and_the_end_is_the_end() -> None:
    source = GatedSource([0])
    newest = Newest(source)
    newest.start()

    source.let_all_through()
    frame = newest.read()

    assert frame is not None
    assert newest.read() is None
    assert newest.read() is None
    assert source.closed


def test_an_error_in_the_capture_thread_is_raised_by_read_after_the_last_frame() -> None:
    source = GatedSource([0], then=SourceError("The cable is out."))
    newest = Newest(source)
    newest.start()

    source.let_all_through()
    frame = newest.read()

    assert frame is not None
    with pytest.raises(SourceError, match="The cable is out"):
        newest.read()
    assert source.closed


def test_closing_stops_the_thread_which_closes_the_source() -> None:
    source = GatedSource(range(1000))
    newest = Newest(source)
    newest.start()

    source.let_through(1)
    stopper = threading.Thread(target=newest.close)
    stopper.start()
    source.let_all_through()
    stopper.join(10)

    assert source.closed


def sleeper(clock: FakeClock) -> Callable[[float], None]:
    return clock.move


def test_a_paced_source_gives_each_frame_when_it_is_due(clock: FakeClock) -> None:
    paced = Paced(FakeSource(range(3), clock, wait=0.01), clock=clock, sleep=sleeper(clock))

    given, captured = zip(*[(clock(), frame.captured) for frame in iter(paced.read, None)], strict=True)

    assert given == captured == pytest.approx((100.01, 100.11, 100.21))


def test_a_source_slower_than_its_rate_is_not_made_to_catch_up(clock: FakeClock) -> None:
    paced = Paced(FakeSource(range(4), clock, wait=0.25), clock=clock, sleep=sleeper(clock))  # 4 fps, stated as 10

    ages = [clock() - frame.captured for frame in iter(paced.read, None)]

    assert ages == pytest.approx([0.0] * 4)
