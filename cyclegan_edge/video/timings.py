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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
    """Gathers the timings of a run, however long, in memory that does not grow."""

    def __init__(self) -> None:
        self._stages = np.zeros((_KEPT, len(Stages._fields)), np.float32)  # s, a ring: frame n lies in row n % _KEPT
        self._shown = np.zeros(_KEPT)  # s
        self._frames = 0
        self._dropped = 0
        self._began = 0.0
        self._lock = threading.Lock()  # the numbers are drawn in another thread than they are gathered in
        self._recent: Recent | None = None  # until the next frame

    def add(self, timing: FrameTiming) -> None:
        with self._lock:
            if not self._frames:
                self._began = timing.shown - sum(timing.stages) + timing.stages.age
            row = self._frames % _KEPT
            self._stages[row], self._shown[row] = timing.stages, timing.shown
            self._frames += 1
            self._dropped += timing.dropped
            self._recent = None

    def recent(self) -> Recent:
        with self._lock:
            if self._recent is None:
                rows = self._last(_RECENT)
                elapsed = self._shown[rows[-1]] - self._shown[rows[0]] if len(rows) else 0.0
                fps = float((len(rows) - 1) / elapsed) if elapsed > 0 else None
                self._recent = Recent(self._frames, self._dropped, fps, self._percentile(rows, 50))
            return self._recent

    def summary(self) -> LiveSummary:
        with self._lock:
            rows = self._last(_KEPT)
            return LiveSummary(
                frames=self._frames,
                dropped=self._dropped,
                seconds=float(self._shown[rows[-1]]) - self._began if len(rows) else 0.0,
                measured=len(rows),
                median=self._percentile(rows, 50),
                p95=self._percentile(rows, 95),
            )

    def _last(self, count: int) -> npt.NDArray[np.intp]:
        """The rows of the last `count` frames, oldest first."""
        return np.arange(max(0, self._frames - min(count, _KEPT)), self._frames) % _KEPT

    def _percentile(self, rows: npt.NDArray[np.intp], percent: float) -> Stages:
        """Each stage's percentile in milliseconds; zeros when there is no frame."""
        if not len(rows):
            return Stages(*[0.0] * len(Stages._fields))
        return Stages(*(1000 * np.percentile(self._stages[rows], percent, axis=0)).tolist())
