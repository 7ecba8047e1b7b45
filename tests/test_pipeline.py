"""The pipeline: what passes from stage to stage, and what happens when a part fails. Nothing here measures time."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from cyclegan_edge.contract import Batch
from cyclegan_edge.errors import EngineError, SinkError, SourceError
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.pipeline import MAX_ENGINE_FAILURES, WARM_UP, Pipeline, warm_up
from cyclegan_edge.video.timings import FrameTiming

WAIT = 60  # s for a thread that should come at once


class Numbered:
    """Frames of one level each, with the given indices; then the end, or `then`."""

    name, size, fps, live, stamp = "numbered", (16, 24), 10.0, False, "it was made up"

    def __init__(self, indices: Sequence[int], *, then: BaseException | None = None) -> None:
        self.length: int | None = len(indices)
        self.closed = threading.Event()
        self._indices, self._then = iter(indices), then

    def read(self) -> Frame | None:
        index = next(self._indices, None)
        if index is not None:
            return Frame(numbered(index), 100.0 + index, index)
        if self._then is not None:
            raise self._then
        return None

    def close(self) -> None:
        self.closed.set()


def numbered(index: int) -> BgrPicture:
    """A picture with contrast, whose upper left corner says which it is."""
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:, 12:] = 255
    picture[:4, :4] = index % 256
    return picture


def number_of(rendered: Rendered) -> int:
    return 255 - int(rendered.translated[0, 0, 0])


class Negative:
    """Inverts, and fails on the frames it is told."""

    def __init__(self, fails_on: Sequence[int] = ()) -> None:
        self.runs = 0
        self._fails_on = set(fails_on)

    def prepare(self, image: BgrPicture, *, bgr: bool = False) -> Batch:
        return np.ascontiguousarray(image[np.newaxis, ..., ::-1] if bgr else image[np.newaxis])

    def run(self, batch: Batch) -> Batch:
        self.runs += 1
        if int(batch[0, 0, 0, 0]) in self._fails_on:
            raise EngineError("The engine hiccupped.")
        inverted: Batch = 255 - batch
        return inverted

    def restore(self, batch: Batch, height: int, width: int, *, bgr: bool = False) -> BgrPicture:
        return np.ascontiguousarray(batch[0, ..., ::-1] if bgr else batch[0])


class Kept:
    """A sink that keeps what it is shown; has enough after `enough`, raises on the picture `fails_at`."""

    def __init__(self, name: str = "kept", *, enough: int | None = None, fails_at: int | None = None) -> None:
        self.name, self.shown = name, list[Rendered]()
        self._enough, self._fails_at = enough, fails_at

    def show(self, rendered: Rendered) -> bool:
        self.shown.append(rendered)
        if len(self.shown) == self._fails_at:
            raise SinkError(f"{self.name} is full.")
        return len(self.shown) != self._enough

    @property
    def numbers(self) -> list[int]:
        return [number_of(rendered) for rendered in self.shown]


def run(pipeline: Pipeline, translator: Negative | None = None, **limits: float) -> list[FrameTiming]:
    return list(pipeline.run(translator or Negative(), **limits))  # type: ignore[arg-type]


def test_every_frame_of_a_file_reaches_every_sink_in_order() -> None:
    sinks = [Kept(), Kept()]

    timings = run(Pipeline(Numbered(range(40)), sinks, every=True))

    assert sinks[0].numbers == sinks[1].numbers == list(range(40))
    assert len(timings) == 40


def test_gaps_in_the_count_are_dropped_frames_but_not_those_before_the_first() -> None:
    timings = run(Pipeline(Numbered([2, 3, 7]), [Kept()], every=True))

    assert [timing.dropped for timing in timings] == [0, 0, 3]


def test_without_a_sink_frames_are_translated_and_timed() -> None:
    timings = run(Pipeline(Numbered(range(5)), every=True))

    assert len(timings) == 5
    assert all(stage >= 0 for timing in timings for stage in timing.stages[:-1])


def test_the_view_makes_the_picture_from_input_and_output() -> None:
    sink = Kept()

    run(Pipeline(Numbered([9]), [sink], every=True, view=lambda image, translated: np.hstack((image, translated))))

    assert sink.shown[0].picture.shape == (16, 48, 3)
    np.testing.assert_array_equal(sink.shown[0].picture[:, :24], sink.shown[0].frame.image)


def test_it_ends_after_the_wanted_frames() -> None:
    sink, source = Kept(), Numbered(range(90))

    timings = run(Pipeline(source, [sink], every=True), frames=3)

    assert sink.numbers == [0, 1, 2]
    assert len(timings) == 3
    assert source.closed.wait(WAIT)


def test_it_ends_with_the_first_frame_after_the_wanted_seconds() -> None:
    now = iter(range(10_000))  # every look at the clock is a second later
    sink = Kept()

    run(Pipeline(Numbered(range(90)), [sink], every=True, clock=lambda: float(next(now))), seconds=1)

    assert sink.numbers == [0]


def test_it_ends_when_a_sink_has_enough() -> None:
    sink = Kept(enough=2)

    run(Pipeline(Numbered(range(1000)), [sink], every=True))

    assert sink.numbers[:2] == [0, 1]
    assert len(sink.numbers) < 10


def test_a_broken_source_ends_it_with_its_error_after_what_came_before() -> None:
    sink = Kept()
    pipeline = Pipeline(Numbered([0, 1], then=SourceError("The cable is out.")), [sink], every=True)

    with pytest.raises(SourceError, match="The cable is out"):
        run(pipeline)

    assert sink.numbers == [0, 1]


def test_one_frame_that_the_engine_refuses_is_left_out_and_counted() -> None:
    told: list[str] = []
    source, sink = Gated(range(6)), Kept()
    pipeline = Pipeline(source, [sink], notify=told.append)

    with source.opened(pipeline, Negative(fails_on=[2, 4])) as step:
        for index in range(6):
            step(index)

    assert pipeline.engine_failures == 2
    assert 2 not in sink.numbers
    assert "hiccupped" in told[0]


def test_an_engine_that_fails_three_times_in_a_row_ends_it_with_its_sentence() -> None:
    source = Gated(range(9))
    pipeline = Pipeline(source, [Kept()])

    def work() -> None:
        with source.opened(pipeline, Negative(fails_on=range(256))) as step:
            for index in range(MAX_ENGINE_FAILURES):
                step(index)

    with pytest.raises(EngineError, match="hiccupped"):
        work()

    assert pipeline.engine_failures == MAX_ENGINE_FAILURES


def test_a_sink_that_fails_is_named_and_the_others_go_on() -> None:
    told: list[str] = []
    source, sound, broken = Gated(range(9)), Kept("sound"), Kept("broken", fails_at=1)
    pipeline = Pipeline(source, [broken, sound], notify=told.append)

    with source.opened(pipeline) as step:
        for index in range(9):
            step(index)

    assert sound.numbers[-1] == 8
    assert len(broken.shown) == 1
    assert told == ["broken failed and is left out: broken is full."]


def test_the_last_sink_that_fails_ends_it_with_its_error() -> None:
    with pytest.raises(SinkError, match="only is full"):
        run(Pipeline(Numbered(range(1000)), [Kept("only", fails_at=1)]))  # later ones may all be dropped


def test_a_sink_that_fails_on_a_file_ends_it() -> None:
    with pytest.raises(SinkError, match="first is full"):
        run(Pipeline(Numbered(range(1000)), [Kept("first", fails_at=2), Kept()], every=True))


def test_a_sink_that_is_stuck_holds_up_nobody() -> None:
    class Stuck:
        name, released, entered = "stuck", threading.Event(), threading.Event()

        def show(self, rendered: Rendered) -> bool:
            self.entered.set()
            return self.released.wait(WAIT)

    source, quick, stuck = Gated(range(20)), Kept(), Stuck()
    pipeline = Pipeline(source, [quick, stuck])

    with source.opened(pipeline) as step:
        for index in range(20):
            step(index)
        assert stuck.entered.wait(WAIT)
        assert quick.numbers[-1] == 19
        stuck.released.set()

    assert quick.numbers == list(range(20))


def test_what_is_frozen_is_not_shown() -> None:
    rendered = queue.SimpleQueue[int]()

    def view(image: BgrPicture, translated: BgrPicture) -> BgrPicture:
        rendered.put(int(image[0, 0, 0]))
        return translated

    source, sink = Gated(range(4)), Kept()
    pipeline = Pipeline(source, [sink], view=view)

    with source.opened(pipeline) as step:
        step(0)
        pipeline.frozen = True
        for index in (1, 2):  # with the second rendered, it is decided that the first is not shown
            source.release()
            while rendered.get(timeout=WAIT) != index:
                pass
        pipeline.frozen = False
        step(3)

    assert 1 not in sink.numbers


def test_another_translator_takes_over_between_two_frames() -> None:
    class Same(Negative):
        def run(self, batch: Batch) -> Batch:
            return batch.copy()

    source, sink = Gated(range(4)), Kept()
    pipeline = Pipeline(source, [sink])

    with source.opened(pipeline) as step:
        step(0)
        pipeline.translator = Same()
        step(1)

    assert [int(rendered.translated[0, 0, 0]) for rendered in sink.shown] == [255, 1]


def test_during_an_outage_the_last_picture_stays_with_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyclegan_edge.video.pipeline.STALLED", 0.01)
    noticed = threading.Event()

    class Looking(Kept):
        def show(self, rendered: Rendered) -> bool:
            if rendered.notice:
                noticed.set()
            return super().show(rendered)

    source, sink = Gated(range(2)), Looking()
    pipeline = Pipeline(source, [sink], trouble=lambda: "the camera is away")

    with source.opened(pipeline) as step:
        step(0)
        assert noticed.wait(WAIT)

    notices = [rendered for rendered in sink.shown if rendered.notice]
    assert notices[0].notice == "the camera is away"
    assert number_of(notices[0]) == 0


def test_a_source_is_drained_while_the_model_is_being_opened() -> None:
    source, sink = Gated(range(30)), Kept()
    pipeline = Pipeline(source, [sink])

    pipeline.drain()
    for _ in range(20):
        source.release()
    source.wait_until_asked(21)
    with source.opened(pipeline) as step:
        step(20)

    assert sink.numbers[0] == 20


def test_a_pipeline_that_never_ran_lets_go_of_its_source() -> None:
    source = Numbered([0])

    Pipeline(source).close()

    assert source.closed.is_set()


def test_a_window_is_served_by_the_thread_that_runs_the_pipeline() -> None:
    here = threading.get_ident()

    threads = set[int]()

    class Window(Kept):
        def show(self, rendered: Rendered) -> bool:
            threads.add(threading.get_ident())
            return super().show(rendered)

        def idle(self) -> bool:
            threads.add(threading.get_ident())
            return len(self.shown) < 1

    window = Window("the window", enough=1)
    source = Numbered(range(1000))
    pipeline = Pipeline(source)
    pipeline.add_window(window)

    run(pipeline)

    assert threads == {here}
    assert window.shown


def test_warm_up_runs_the_translator() -> None:
    translator = Negative()

    assert warm_up(translator, (16, 24)) >= 0
    assert translator.runs == WARM_UP


class Gated(Numbered):
    """Gives a frame when the test lets it, so that the test knows what has happened before."""

    live = True

    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__(indices)
        self._allowed = threading.Semaphore(0)
        self._asked = threading.Condition()
        self._count = 0

    def read(self) -> Frame | None:
        with self._asked:
            self._count += 1
            self._asked.notify_all()
        self._allowed.acquire()
        return super().read()

    def release(self) -> None:
        self._allowed.release()

    def wait_until_asked(self, count: int) -> None:
        with self._asked:
            assert self._asked.wait_for(lambda: self._count >= count, WAIT)

    def opened(self, pipeline: Pipeline, translator: Negative | None = None) -> "_Run":
        return _Run(self, pipeline, translator or Negative())


class _Run:
    """A pipeline at work in a thread; what it gives lets one frame through and waits until it was shown."""

    def __init__(self, source: Gated, pipeline: Pipeline, translator: Negative) -> None:
        self._source, self._pipeline = source, pipeline
        self._shown: set[int] = set()
        self._changed = threading.Condition()
        self._translator = translator
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Callable[[int], None]:
        self._thread.start()
        return self._step

    def __exit__(self, *error: object) -> None:
        self._pipeline.stop()
        for _ in range(1000):
            self._source.release()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        try:
            for _ in self._timings():
                with self._changed:
                    self._changed.notify_all()
        except BaseException as error:
            self._errors.append(error)

    def _timings(self) -> Iterator[FrameTiming]:
        return self._pipeline.run(self._translator)

    def _step(self, index: int) -> None:
        failures = self._pipeline.engine_failures
        self._source.release()

        def settled() -> bool:
            last = self._pipeline.last
            sinks = [feed.sink for feed in self._pipeline._feeds if not feed.failed]
            if self._pipeline.engine_failures > failures:
                return True
            if last is None or last.frame.index < index:
                return False
            return all(
                not isinstance(sink, Kept) or any(it.frame.index == index for it in sink.shown) for sink in sinks
            )

        waited = threading.Event()
        for _ in range(WAIT * 200):
            if settled():
                return
            waited.wait(0.005)
        raise AssertionError(f"frame {index} was not shown")
