"""The curves of a run, read back from TensorBoard's event files.

A run that was continued has one file per start. Where a later one says that it starts at step N, the points from N on
that an earlier one wrote are gone, as in TensorBoard itself: its own EventAccumulator decides that.
"""

import contextlib
import logging
import re
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]

_LARGEST = 1 << 14  # bytes of a record that can be a number; a picture is larger, and its checksum takes seconds
_HEADER, _FOOTER = 12, 4  # bytes of a record around its content: length and checksum, checksum
_PARTS_PER_CURVE = 25  # a smoothed point looks this part of the curve far, to both sides
_STARTED = re.compile(r"tfevents\.(\d+)")  # s since 1970


@dataclass(frozen=True, slots=True)
class Curve:
    """One tag of a run, in the order of its steps, each step once."""

    steps: npt.NDArray[np.int64]  # (n,), rising
    values: Floats  # (n,), NaN and infinities as they were written
    times: Floats  # (n,), s since 1970


def read_curves(run: Path) -> dict[str, Curve]:
    """Every scalar tag of the event files directly in `run`, sorted by name; what follows damage in a file is left out.

    Takes a few seconds per 100 000 points.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(sorted(run.glob("*tfevents*"), key=_started)):
            with Path(folder, f"{number:06d}.tfevents").open("wb") as small:
                small.writelines(_small_records(path))
        found = EventAccumulator(folder, size_guidance={"scalars": 0})
        with _quiet():
            found.Reload()
        return {tag: _curve(found, tag) for tag in sorted(found.Tags()["scalars"]) if found.Scalars(tag)}


def thin(values: Floats, points: int) -> npt.NDArray[np.intp]:
    """The indices of at most about `points` values that look like all of them: per bin the lowest and the highest.

    A bin that holds a value that is not finite keeps one of those too, so that the gap is seen.
    """
    if len(values) <= points:
        return np.arange(len(values))
    kept: set[int] = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), points // 2):
        finite = np.isfinite(values[part])
        if finite.any():
            among = part[finite]
            kept |= {int(among[values[among].argmin()]), int(among[values[among].argmax()])}
        if not finite.all():
            kept.add(int(part[~finite][0]))
    return np.array(sorted(kept))


def smooth(values: Floats) -> Floats:
    """(n,) -> (n,): the mean of the finite values around each, near ones weighing more; NaN where none was finite.

    The weights are a raised cosine over a 25th of the curve to either side.
    """
    reach = len(values) // _PARTS_PER_CURVE
    weights = np.hanning(2 * reach + 3)[1:-1]  # without its zeros
    finite = np.isfinite(values)
    weight = np.convolve(finite, weights, "same")
    total = np.convolve(np.where(finite, values, 0.0), weights, "same")
    return np.where(finite, total / np.where(finite, weight, 1.0), np.nan)


def time_spent(curve: Curve) -> float:
    """Seconds from the first point to the last, without the pauses between continuations.

    A pause is what exceeds ten times the usual distance of two points.
    """
    distances = np.diff(curve.times)
    return float(np.minimum(distances, 10.0 * np.median(distances)).sum()) if len(distances) else 0.0


def _curve(found: EventAccumulator, tag: str) -> Curve:
    last = {event.step: event for event in found.Scalars(tag)}  # a step that was written twice counts once
    events = [last[step] for step in sorted(last)]
    return Curve(
        steps=np.array([event.step for event in events], np.int64),
        values=np.array([event.value for event in events], np.float64),
        times=np.array([event.wall_time for event in events], np.float64),
    )


def _small_records(path: Path) -> Iterator[bytes]:
    """The whole records of a TFRecord file that are short enough for a number."""
    left = path.stat().st_size
    with path.open("rb") as file:
        while left >= _HEADER + _FOOTER:
            header = file.read(_HEADER)
            (length,) = struct.unpack_from("<Q", header)
            left -= _HEADER + length + _FOOTER
            if left < 0:  # cut off, or still being written
                return
            if length <= _LARGEST:
                yield header + file.read(length + _FOOTER)
            else:
                file.seek(length + _FOOTER, 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TensorBoard warns on stderr of every continuation; that is no news here."""
    logger = logging.getLogger("tensorboard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _started(path: Path) -> tuple[int, int]:
    """When a file was begun, by its name; of two from the same second, when it was written last."""
    named = _STARTED.search(path.name)
    return int(named[1]) if named else 0, path.stat().st_mtime_ns
