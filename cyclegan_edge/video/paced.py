"""Sources in time: one that could be read faster, played at its own rate, and one that begins again at its end."""

import time
from collections.abc import Callable

from cyclegan_edge.errors import SourceError
from cyclegan_edge.video.frames import Clock, Frame, Source


class Paced:
    """Plays a source that could be read faster at its own rate, as if it were a camera.

    A frame counts as captured when it is due. A source too slow for its rate starts a new schedule, so it falls
    behind by less than one frame.
    """

    live = True
    stamp = "it was due"

    def __init__(
        self, source: Source, *, clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name, self.size, self.fps, self.length = source.name, source.size, source.fps, source.length
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


class Looped:
    """Plays a source that ends again and again, opening it anew each time."""

    length: int | None = None

    def __init__(self, reopen: Callable[[], Source]) -> None:
        self._source, self._reopen = reopen(), reopen
        self.name, self.size, self.fps = self._source.name, self._source.size, self._source.fps
        self.live, self.stamp = self._source.live, self._source.stamp
        self._index = -1

    def read(self) -> Frame:
        frame = self._source.read()
        if frame is None:
            self._source.close()
            self._source = self._reopen()
            frame = self._source.read()
        if frame is None:
            raise SourceError(f"{self.name} holds no frame any more; see whether it was changed.")
        self._index += 1
        return Frame(frame.image, frame.captured, self._index)

    def close(self) -> None:
        self._source.close()
