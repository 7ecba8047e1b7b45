"""Outages are normal: a live source that is opened again, for ever, when it breaks."""

import threading
import time
from collections.abc import Callable

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SourceError
from cyclegan_edge.video.frames import Clock, Frame, Notify, Source

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # s between two attempts; doubled each time


class Reconnecting:
    """Frames of a camera or stream, counted on across its outages.

    The first loss and the return are told to `notify`; in between, `trouble` says what is going on. Setting `stopping`
    ends a pause at once, and the source with it.
    """

    live = True
    length: int | None = None

    def __init__(
        self,
        source: Source,
        reopen: Callable[[], Source],
        *,
        stopping: threading.Event,
        notify: Notify,
        clock: Clock = time.monotonic,
    ) -> None:
        """`reopen` raises SourceError while the source is away."""
        self.name, self.fps, self.stamp = source.name, source.fps, source.stamp
        self.size: Size = source.size
        self.outages = 0
        self._source: Source | None = source
        self._reopen, self._stopping, self._notify, self._clock = reopen, stopping, notify, clock
        self._index = -1
        self._lost: float | None = None  # when

    def read(self) -> Frame | None:
        while not self._stopping.is_set():
            try:
                frame = self._connected().read()
                if frame is None:
                    raise SourceError(f"{self.name} ended.")
            except SourceError as error:
                self._lose(error)
                continue
            self._find()
            self._index += 1
            return Frame(frame.image, frame.captured, self._index, frame.tag)
        return None

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def trouble(self) -> str | None:
        """Why no frames come, None while they do."""
        lost = self._lost
        return None if lost is None else f"{self.name} is away for {self._clock() - lost:.0f} s, trying again"

    def _connected(self) -> Source:
        if self._source is None:
            self._source = self._reopen()
        return self._source

    def _lose(self, error: SourceError) -> None:
        self.close()
        if self._lost is None:
            self._lost, self._pause = self._clock(), FIRST_PAUSE
            self.outages += 1
            self._notify(f"{error} It is tried again until it is back.")
        self._stopping.wait(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _find(self) -> None:
        if self._lost is not None:
            self._notify(f"{self.name} is back after {self._clock() - self._lost:.0f} s.")
            self._lost = None
