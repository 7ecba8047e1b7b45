"""What the pipeline measured: one `FrameTiming` per frame, gathered by `Timings`, condensed into a `LiveSummary`.

    captured                                                              shown
       |   --prepare--     (wait)  ----run----      --restore--    --show--  |
       |--------------------------------- age -------------------------------|

The stages run beside each other, so a frame may lie between two of them for a while; `wait` is how long the engine had
nothing to do before this frame came. `age` is the latency of a picture: from its time stamp to the moment it was handed
to the screen, file or page. What happens before the stamp (exposure) and after the hand-over (the screen's own delay)
cannot be seen from here.
"""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

_KEPT = 36_000  # frames behind the medians of a summary: 20 minutes at 30 fps
_RECENT = 30  # frames behind the numbers on the picture


class Stages(NamedTuple):
    """How long each stage of one frame took, or a statistic of many."""

    wait: float  # of the engine, for a frame
    prepare: float
    run: float
    restore: float  # with smoothing, the numbers on the picture and the halves side by side
    show: float  # by the first sink
    age: float  # of the frame when it was shown: not a stage but the latency a person sees


@dataclass(frozen=True, slots=True)
class FrameTiming:
    """One shown frame."""

    shown: float  # s, on the pipeline's clock
    dropped: int  # frames of the source between the one before and this one
    stages: Stages  # s


@dataclass(frozen=True, slots=True)
class Recent:
    """The last `_RECENT` frames, and the counts since the start."""

    frames: int
    dropped: int
    fps: float | None  # None before the second frame
    median: Stages  # ms


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """A run in numbers. Rate and counts cover all of it, the percentiles its last `measured` frames."""

    frames: int
    dropped: int
    seconds: float  # from asking for the first frame to showing the last
    measured: int
    median: Stages  # ms
    p95: Stages  # ms, 95th percentile

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds > 0 else 0.0


class Timings:
    """Gathers the timings of a run, however long, in bounded memory."""

    def __init__(self) -> None:
        self._kept: deque[FrameTiming] = deque(maxlen=_KEPT)
        self._frames = 0
        self._dropped = 0
        self._began = 0.0
        self._lock = threading.Lock()  # the numbers are drawn in another thread than they are gathered in
        self._recent: Recent | None = None  # until the next frame

    def add(self, timing: FrameTiming) -> None:
        with self._lock:
            if not self._frames:
                self._began = timing.shown - sum(timing.stages) + timing.stages.age
            self._frames += 1
            self._dropped += timing.dropped
            self._kept.append(timing)
            self._recent = None

    def recent(self) -> Recent:
        with self._lock:
            if self._recent is not None:
                return self._recent
            last = list(islice(reversed(self._kept), _RECENT))  # newest first
        elapsed = last[0].shown - last[-1].shown if last else 0.0
        fps = (len(last) - 1) / elapsed if elapsed > 0 else None
        self._recent = Recent(self._frames, self._dropped, fps, _percentile(last, 50))
        return self._recent

    def summary(self) -> LiveSummary:
        seconds = self._kept[-1].shown - self._began if self._kept else 0.0
        return LiveSummary(
            frames=self._frames,
            dropped=self._dropped,
            seconds=seconds,
            measured=len(self._kept),
            median=_percentile(self._kept, 50),
            p95=_percentile(self._kept, 95),
        )


def _percentile(timings: Iterable[FrameTiming], percent: float) -> Stages:
    """Each stage's percentile in milliseconds; zeros when there is no frame."""
    stages = np.array([timing.stages for timing in timings] or [Stages(0, 0, 0, 0, 0, 0)])  # (frames, stages)
    return Stages(*(1000 * np.percentile(stages, percent, axis=0)).tolist())
