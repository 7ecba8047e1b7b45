"""The live pipeline: three stages, each in a thread of its own and at its own pace, and a thread for every sink.

    capture                  translate            present                     sinks
    source.read              translator.run       stabilize, restore, view    show, each on its own
    translator.prepare  -->                  -->                         -->
                        mailbox              mailbox                     a mailbox each

A mailbox holds the newest item only, so a stage that is slow drops pictures and never makes the others wait, and the
age of a picture does not grow. With `every` each stage waits for the next one instead: so files are worked through.

What may go wrong: a sink that fails is named and left out, the others go on; a frame that the engine refuses is dropped
and counted, and `MAX_ENGINE_FAILURES` in a row end the run; a source that breaks ends it, after what was captured
before was shown. The pipeline knows no camera, window or clock of its own.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cyclegan_edge.contract import Batch, Size
from cyclegan_edge.errors import first_line
from cyclegan_edge.video import overlay
from cyclegan_edge.video.frames import BgrPicture, Clock, Frame, FrameTranslator, Notify, Rendered, Sink, Source
from cyclegan_edge.video.mailbox import Mailbox
from cyclegan_edge.video.stabilize import FrameSkipper, Stabilizer
from cyclegan_edge.video.timings import FrameTiming, Stages

WARM_UP = 3  # runs before the first frame: engines allocate, tune and page in then
MAX_ENGINE_FAILURES = 3  # in a row
STALLED = 1.0  # s without a frame until the last picture is shown with a notice

_JOIN = 0.3  # s to wait for a thread at the end; one stuck in a driver dies with the process
_FINISH = 10.0  # s for the sinks to finish what they hold
_POLL = 0.01  # s between two looks at the keys of a window

View = Callable[[BgrPicture, BgrPicture], BgrPicture]  # (input, translated) -> the picture to show


class Window(Sink, Protocol):
    """A sink that has to live in the main thread, as windows do."""

    def idle(self) -> bool:
        """Look at the keys while there is no new picture; False when the person wants no more."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    frame: Frame
    translator: FrameTranslator  # the one whose size the batch has
    batch: Batch
    prepare: float  # s


@dataclass(frozen=True, slots=True)
class _Translated:
    prepared: _Prepared
    batch: Batch
    wait: float  # s, for the frame
    run: float  # s


@dataclass(frozen=True, slots=True)
class _Presented:
    rendered: Rendered
    translated: _Translated
    restore: float  # s


def warm_up(translator: FrameTranslator, size: Size, *, clock: Clock = time.monotonic) -> float:
    """Translate a grey picture of `size` `WARM_UP` times; returns the seconds it took."""
    began = clock()
    for _ in range(WARM_UP):
        batch = translator.run(translator.prepare(np.full((*size, 3), 128, np.uint8), bgr=True))
        translator.restore(batch, *size, bgr=True)
    return clock() - began


class Pipeline:
    """A source, a translator and sinks at work; see the top of this file.

    May be changed while it runs: `translator`, `view`, `frozen` (nothing new is shown), and the settings of
    `stabilizer` and `skipper`.
    """

    def __init__(
        self,
        source: Source,
        sinks: Sequence[Sink] = (),
        *,
        view: View = lambda _, translated: translated,
        every: bool = False,
        stopping: threading.Event | None = None,
        notify: Notify = lambda _: None,
        trouble: Callable[[], str | None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`trouble` says why no frames come, where it is known; `notify` is told of what went wrong on the way.

        `stopping` is set when the run ends, and ends it when it is set: a source that waits for its device looks at it.
        """
        self.translator: FrameTranslator | None = None
        self.view, self.frozen = view, False
        self.stabilizer, self.skipper = Stabilizer(), FrameSkipper()
        self.engine_failures = 0
        self.last: Rendered | None = None  # the newest that was handed out
        self._source, self._every, self._clock = source, every, clock
        self._notify, self.trouble = notify, trouble
        self._captured: Mailbox[_Prepared] = Mailbox(every=every)
        self._translated: Mailbox[_Translated] = Mailbox(every=every)
        self._feeds = [_Feed(sink, Mailbox(every=every)) for sink in sinks]
        self._window: _Feed | None = None
        self._idle: Callable[[], bool] = lambda: True  # of the window
        self._timings: queue.SimpleQueue[FrameTiming | None] = queue.SimpleQueue()
        self._newest: int | None = None  # index of the frame shown last
        self._frames: int | None = None
        self._seconds: float | None = None
        self._stopping = stopping or threading.Event()
        self._error: BaseException | None = None
        self._closed = False
        self._capturing = threading.Thread(target=self._capture, name="capture", daemon=True)

    def add(self, sink: Sink) -> None:
        """Show to one more sink; before `run`."""
        self._feeds.append(_Feed(sink, Mailbox(every=self._every)))

    def add_window(self, window: Window) -> None:
        """Show in a window too, which `run` serves in its own thread; before `run`."""
        self._window, self._idle = _Feed(window, Mailbox()), window.idle

    def drain(self) -> None:
        """Start to read the source, so that nothing old waits in it while a translator is being opened."""
        if self._capturing.ident is None:
            self._capturing.start()

    def run(
        self, translator: FrameTranslator, *, frames: int | None = None, seconds: float | None = None
    ) -> Iterator[FrameTiming]:
        """Translate and show until the end, yielding the timing of each frame once the first sink has shown it.

        Ends with the source, when a sink has had enough, after `frames` frames, or with the first frame after
        `seconds`. Raises what the source, the engine or the last sink raised.
        """
        self._frames, self._seconds = frames, seconds
        self.translator = translator
        self.drain()
        working = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("translate", self._translate), ("present", self._present))
        ]
        showing = [
            threading.Thread(target=self._feed, args=(feed,), name=feed.sink.name, daemon=True) for feed in self._feeds
        ]
        for thread in (*working, *showing):
            thread.start()
        ending = threading.Thread(target=self._end, args=(working, showing), name="end", daemon=True)
        ending.start()
        try:
            yield from self._watch()
        finally:
            self.stop()
            ending.join(_FINISH)
            self.close()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the run from any thread; what sinks hold already is still shown."""
        self._stopping.set()
        self._captured.close(discard=True)
        self._translated.close(discard=True)

    def close(self) -> None:
        """End the run, if need be, and let go of the source."""
        self.stop()
        if self._closed:
            return
        self._closed = True
        if self._capturing.ident is None:
            self._source.close()
        else:
            self._capturing.join(_JOIN)

    def _watch(self) -> Iterator[FrameTiming]:
        """What the main thread does: run the window, if there is one, and pass the timings on."""
        ended = False
        while not ended:
            if self._window is not None:
                self._look_at(self._window)
            while not ended:
                try:
                    timing = self._timings.get(block=self._window is None)
                except queue.Empty:
                    break
                if timing is None:
                    ended = True
                else:
                    yield timing

    def _look_at(self, feed: "_Feed") -> None:
        presented = feed.mailbox.take(_POLL)
        try:
            wanted = self._idle() if presented is None else self._show(feed, presented)
        except Exception as error:  # whatever a window raises costs the window only
            self._drop(feed, error)
            self._window = None
        else:
            if not wanted:
                self.stop()

    def _capture(self) -> None:
        try:
            while not self._stopping.is_set():
                frame = self._source.read()
                if frame is None:
                    break
                translator = self.translator
                if translator is None:  # still being opened
                    continue
                began = self._clock()
                batch = translator.prepare(frame.image, bgr=True)
                self._captured.put(_Prepared(frame, translator, batch, self._clock() - began))
        except BaseException as error:  # whatever it is, the run must end with it
            self._fail(error)
        finally:
            self._captured.close()
            self._source.close()

    def _translate(self) -> None:
        failures = 0
        try:
            ran = self._clock()
            while (prepared := self._captured.take()) is not None:
                began = self._clock()
                try:
                    batch = self.skipper(prepared.batch, prepared.translator)
                except Exception as error:
                    failures += 1
                    self.engine_failures += 1
                    if failures == MAX_ENGINE_FAILURES or self._every:
                        raise
                    self._notify(f"The engine failed on one frame, which is left out ({first_line(error)}).")
                    continue
                failures, wait, ran = 0, began - ran, self._clock()
                self._translated.put(_Translated(prepared, batch, wait, ran - began))
        except BaseException as error:
            self._fail(error)
        finally:
            self._captured.close(discard=True)
            self._translated.close()

    def _present(self) -> None:
        began, count = self._clock(), 0
        try:
            while not self._translated.ended:
                translated = self._translated.take(None if self._every else STALLED)
                if translated is None:
                    self._remind()
                    continue
                presented = self._render(translated)
                if not self.frozen:
                    self._hand_out(presented)
                count += 1
                if count == self._frames or (self._seconds is not None and self._clock() - began >= self._seconds):
                    break
        except BaseException as error:
            self._fail(error)
        finally:
            self._stopping.set()
            self._captured.close(discard=True)
            self._translated.close(discard=True)
            for feed in self._all_feeds():
                feed.mailbox.close()

    def _render(self, translated: _Translated) -> _Presented:
        began = self._clock()
        prepared, frame = translated.prepared, translated.prepared.frame
        batch = self.stabilizer(prepared.batch, translated.batch)
        height, width = frame.image.shape[:2]
        restored = prepared.translator.restore(batch, height, width, bgr=True)
        rendered = Rendered(frame, restored, self.view(frame.image, restored))
        return _Presented(rendered, translated, self._clock() - began)

    def _hand_out(self, presented: _Presented) -> None:
        self.last = presented.rendered
        feeds = self._all_feeds()
        for feed in feeds:
            feed.mailbox.put(presented)
        if not feeds:
            self._shown(presented, self._clock(), 0.0)

    def _remind(self) -> None:
        """Show the last picture again, with the reason why it is not followed by others."""
        trouble, last = self.trouble(), self.last
        if last is None or trouble is None or self._stopping.is_set():
            return
        noticed = Rendered(last.frame, last.translated, overlay.draw(last.picture, [trouble]), notice=trouble)
        for feed in self._all_feeds():
            feed.mailbox.put(noticed)

    def _feed(self, feed: "_Feed") -> None:
        """What the thread of one sink does."""
        try:
            while (presented := feed.mailbox.take()) is not None:
                if not self._show(feed, presented):
                    self.stop()
        except Exception as error:
            self._drop(feed, error)

    def _show(self, feed: "_Feed", presented: "_Presented | Rendered") -> bool:
        if isinstance(presented, Rendered):
            return feed.sink.show(presented)
        began = self._clock()
        wanted = feed.sink.show(presented.rendered)
        ended = self._clock()
        if feed is self._all_feeds()[0]:
            self._shown(presented, ended, ended - began)
        return wanted

    def _shown(self, presented: _Presented, now: float, show: float) -> None:
        translated, frame = presented.translated, presented.rendered.frame
        stages = Stages(
            wait=translated.wait,
            prepare=translated.prepared.prepare,
            run=translated.run,
            restore=presented.restore,
            show=show,
            age=now - frame.captured,
        )
        dropped = 0 if self._newest is None else frame.index - self._newest - 1  # none while the model was opened
        self._timings.put(FrameTiming(now, dropped, stages))
        self._newest = frame.index

    def _drop(self, feed: "_Feed", error: Exception) -> None:
        """Go on without a sink that failed, unless it was the last one or the whole purpose."""
        feed.failed = True
        feed.mailbox.close(discard=True)
        if self._every or not self._all_feeds():
            self._fail(error)
            self.stop()
        else:
            self._notify(f"{feed.sink.name} failed and is left out: {error}")

    def _all_feeds(self) -> "list[_Feed]":
        """The sinks that work, the one whose timings count first."""
        feeds = [self._window, *self._feeds] if self._window else self._feeds
        return [feed for feed in feeds if feed is not None and not feed.failed]

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def _end(self, working: list[threading.Thread], showing: list[threading.Thread]) -> None:
        """Say that there are no more timings once every stage and sink has ended."""
        for thread in working:
            thread.join()
        for thread in showing:
            thread.join(_FINISH)
        self._timings.put(None)


class _Feed:
    """A sink, and the mailbox that holds the next picture for it."""

    def __init__(self, sink: Sink, mailbox: "Mailbox[_Presented | Rendered]") -> None:
        self.sink, self.mailbox, self.failed = sink, mailbox, False
