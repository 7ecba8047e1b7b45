"""Frames in time: a source played at its own rate, and a thread that keeps only the newest frame.

`Newest` bounds the latency: when the translator is slower than the camera, frames in between are dropped, never queued.
"""

import threading
import time
from collections.abc import Callable

from cyclegan_edge.video.frames import Clock, Frame, Source

_JOIN = 2.0  # s to wait for a capture thread at the end; one stuck in a driver dies with the process


def as_live(source: Source, *, live: bool) -> Source:
    """`source` as the loop reads it: the newest frame where it is live or `live` asks for it, else every frame."""
    if source.live:
        return Newest(source)
    return Newest(Paced(source)) if live else source


class Paced:
    """Plays a source that could be read faster at its own rate, as if it were a camera.

    A frame counts as captured when it is due. A source too slow for its rate starts a new schedule, so it falls
    behind by less than one frame.
    """

    live = True

    def __init__(
        self, source: Source, *, clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name, self.size, self.fps, self.length = source.name, source.size, source.fps, source.length
        self.stamp = "it was due"
        self._source, self._clock, self._sleep = source, clock, sleep
        self._start: float | None = None  # when frame 0 was due

    def read(self) -> Frame | None:
        frame = self._source.read()
        if frame is None:
            return None
        now, offset = self._clock(), frame.index / self.fps
        if self._start is None or now > self._start + offset + 1 / self.fps:
            self._start = now - offset
        due = self._start + offset
        if due > now:
            self._sleep(due - now)
        return Frame(frame.image, due, frame.index)

    def close(self) -> None:
        self._source.close()


class Newest:
    """Reads a source in its own thread into one slot; `read` takes the newest frame, waiting only when there is none.

    The thread starts with the first `read` or with `start`. An exception in it is raised by the next `read`. `close`
    stops it, and it closes the source itself: a capture must not be released while it is being read.
    """

    def __init__(self, source: Source) -> None:
        self.name, self.size, self.fps, self.length = source.name, source.size, source.fps, source.length
        self.live, self.stamp = source.live, source.stamp
        self._source = source
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)
            self._thread.start()

    def read(self) -> Frame | None:
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended)
            frame, self._frame = self._frame, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread is None:
            self._source.close()
        else:
            self._thread.join(_JOIN)

    def _capture(self) -> None:
        try:
            while not self._ended:
                frame = self._source.read()
                with self._changed:
                    if frame is None:
                        break
                    self._frame = frame
                    self._changed.notify_all()
        except BaseException as error:  # whatever it is, the loop must see it
            self._error = error
        finally:
            self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
