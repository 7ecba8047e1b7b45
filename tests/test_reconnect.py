"""Outages: a source that breaks is opened again until it is back, and nothing is left over."""

import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cyclegan_edge.errors import SourceError
from cyclegan_edge.video import reconnect
from cyclegan_edge.video.frames import Frame, Source
from cyclegan_edge.video.reconnect import FIRST_PAUSE, LONGEST_PAUSE, Reconnecting

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Breaking:
    """Gives `count` frames and breaks; holds a descriptor while it is open."""

    name, size, fps, live, stamp = "camera", (8, 8), 30.0, True, "it was read"
    length: int | None = None

    def __init__(self, count: int) -> None:
        self.closed = False
        self._left = count
        self._held = os.open("/dev/null", os.O_RDONLY)

    def read(self) -> Frame | None:
        if not self._left:
            raise SourceError("The cable is out.")
        self._left -= 1
        return Frame(PICTURE, 0.0, 0)

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        os.close(self._held)


class Patient(threading.Event):
    """An event whose waits take no time, and are remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        return self.is_set()


def away(times: int, then: Callable[[], Breaking]) -> Callable[[], Source]:
    """Opens after so many attempts."""
    attempts: Iterator[int] = iter(range(times))

    def reopen() -> Source:
        if next(attempts, None) is not None:
            raise SourceError("It does not answer.")
        return then()

    return reopen


def test_frames_are_counted_on_after_an_outage_which_is_told_twice() -> None:
    told: list[str] = []
    source = Reconnecting(Breaking(2), away(3, lambda: Breaking(9)), stopping=Patient(), notify=told.append)

    frames = [source.read() for _ in range(5)]

    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3, 4]
    assert source.outages == 1
    assert len(told) == 2
    assert "The cable is out. It is tried again" in told[0]
    assert "camera is back" in told[1]


def test_the_pauses_grow_to_half_a_minute_and_no_further() -> None:
    stopping = Patient()
    source = Reconnecting(Breaking(0), away(9, lambda: Breaking(1)), stopping=stopping, notify=lambda _: None)

    source.read()

    assert stopping.waits[:4] == [FIRST_PAUSE, 1.0, 2.0, 4.0]
    assert stopping.waits[-1] == LONGEST_PAUSE
    assert len(stopping.waits) == 10


def test_what_is_wrong_can_be_asked_for_while_it_is() -> None:
    class Looking(Patient):
        def wait(self, timeout: float | None = None) -> bool:
            said.append(source.trouble())
            return super().wait(timeout)

    said: list[str | None] = []
    source = Reconnecting(Breaking(1), away(1, lambda: Breaking(9)), stopping=Looking(), notify=lambda _: None)

    source.read()
    said.append(source.trouble())
    source.read()

    assert said[0] is None
    assert said[1] is not None
    assert "camera is away for 0 s" in said[1]
    assert source.trouble() is None


def test_stopping_ends_a_pause_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_PAUSE", 3600.0)
    stopping = threading.Event()
    source = Reconnecting(Breaking(0), away(99, lambda: Breaking(9)), stopping=stopping, notify=lambda _: None)
    read: list[Frame | None] = []
    reading = threading.Thread(target=lambda: read.append(source.read()))

    reading.start()
    stopping.set()
    reading.join(60)

    assert read == [None]


def test_fifty_outages_leave_threads_and_descriptors_as_they_were() -> None:
    source = Reconnecting(Breaking(1), lambda: Breaking(1), stopping=Patient(), notify=lambda _: None)
    source.read()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208

    for _ in range(50):
        source.read()

    assert source.outages == 50
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208
