"""How far a run has come, and its clock; the same for whatever is trained."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.schedule import Position, ScheduleConfig, share_done

_SMOOTHING = 20  # steps that pairs per second are averaged over


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run has come."""

    step: int  # steps taken
    total: int | None  # steps of the whole run; None when the clock decides
    share: float  # of the run that is done, 0..1
    seconds_left: float  # exact when the clock decides, else at the speed of the last steps
    pairs_per_second: float  # or pictures; over the last steps, saving and sampling included
    losses: dict[str, float] | None  # unweighted, of this step; None between two logged steps
    sample: Path | None = None  # written at this step
    checkpoint: Path | None = None  # written at this step
    warnings: tuple[str, ...] = ()  # sentences about trouble


class Clock:
    """Counts the seconds in training, and the pairs per second over the last steps.

    When the seconds end the run, all processes go by those of the first.
    """

    def __init__(self, seconds: float, batch: int, schedule: ScheduleConfig, group: ProcessGroup) -> None:
        """`seconds` in training so far."""
        self._batch, self._group, self._shared = batch, group, schedule.minutes is not None
        self._times = [time.monotonic()]
        self._start = self._times[0] - seconds

    def tick(self) -> tuple[float, float]:
        """Count a step; pairs per second, and seconds in training."""
        self._times = [*self._times[-_SMOOTHING:], time.monotonic()]
        seconds = self._times[-1] - self._start
        per_second = self._batch * (len(self._times) - 1) / max(1e-9, self._times[-1] - self._times[0])
        return per_second, self._group.broadcast(seconds) if self._shared else seconds


def progress_at(
    at: Position,
    schedule: ScheduleConfig,
    *,
    per_second: float,
    batch: int,
    losses: dict[str, float] | None,
    sample: Path | None,
    checkpoint: Path | None,
    warnings: Iterable[str],
) -> Progress:
    """What there is to say after the step that led to `at`, at a speed in pairs, or pictures, per second."""
    return Progress(
        step=at.step,
        total=schedule.total_steps(at.steps_per_epoch),
        share=share_done(schedule, at),
        pairs_per_second=per_second,
        seconds_left=_seconds_left(schedule, at, batch / per_second),
        losses=losses,
        sample=sample,
        checkpoint=checkpoint,
        warnings=tuple(warnings),
    )


def _seconds_left(schedule: ScheduleConfig, at: Position, seconds_per_step: float) -> float:
    """Until the end of the run."""
    total = schedule.total_steps(at.steps_per_epoch)
    if total is None:
        return max(0.0, 60.0 * (schedule.minutes or 0.0) - at.seconds)
    return (total - at.step) * seconds_per_step
