"""Curves as SVG that a page can hold: axes with round numbers, a faint line of what was measured, a clear smoothed one.

Colours and sizes of text are the page's: see page.css for the classes. A value that is not finite leaves a gap.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cyclegan_edge.train.report.curves import Curve, Floats, smooth, thin

POINTS = 500  # of a line, about: more than the chart has pixels

_WIDTH, _HEIGHT = 480, 220  # of the drawing, in its own units: about a pixel each on a desk, less on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 8, 24  # room for the axes
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_TICKS = 5  # on an axis, at most about
_OUTLIERS = 1.0  # percent of the values at each end that may leave the chart ...
_STRETCH = 3.0  # ... when they would stretch it by more than this


@dataclass(frozen=True, slots=True)
class Line:
    """A curve with the name that the legend gives it."""

    label: str
    curve: Curve
    noisy: bool = True  # smoothed, with what was measured faint behind it

    @property
    def clear(self) -> Floats:
        """The values of the strong line."""
        return smooth(self.curve.values) if self.noisy else self.curve.values


@dataclass(frozen=True, slots=True)
class Mark:
    """A value to compare the lines with, drawn dotted."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Range:
    """What an axis shows."""

    low: float
    high: float

    def share(self, values: Floats) -> Floats:
        """Where values lie on the axis: 0 at its low end, 1 at its high end."""
        return np.asarray((values - self.low) / (self.high - self.low), np.float64)


def draw(title: str, lines: Sequence[Line], mark: Mark | None = None) -> str:
    """One <svg> of up to four lines over the steps; only `title` and the labels are text from outside."""
    across = _steps_shown(lines)
    up = _values_shown(lines, mark)
    parts = [*_grid(up), *_step_labels(across)]
    plot = []
    if mark is not None:
        y = _number(_y(up, mark.value) - _TOP)
        plot.append(f'<path class="mark" d="M0 {y}H{_INNER_WIDTH}"/>')
    for kind, of in (("raw", [line.curve.values for line in lines]), ("smooth", [line.clear for line in lines])):
        for number, (line, values) in enumerate(zip(lines, of, strict=True), 1):
            kept = thin(values, POINTS)
            path = _path(across.share(line.curve.steps[kept].astype(np.float64)), up.share(values[kept]))
            plot.append(f'<path class="{kind} line-{number}" d="{path}"/>')
    inner = f'<svg x="{_LEFT}" y="{_TOP}" width="{_INNER_WIDTH}" height="{_INNER_HEIGHT}">{"".join(plot)}</svg>'
    label = escape(f"{title}: {describe(lines)}")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}{inner}</svg>"
    )


def describe(lines: Iterable[Line]) -> str:
    """The chart in words, for whoever cannot see it."""
    said = []
    for line in lines:
        values = line.clear[np.isfinite(line.clear)]
        course = f"from {short(values[0])} to {short(values[-1])}" if len(values) else "never finite"
        said.append(f"{line.label} {course}")
    return ", ".join(said)


def off_the_chart(lines: Sequence[Line], mark: Mark | None = None) -> Iterator[str]:
    """A sentence for each line with values that are not finite, and for each that leaves the axis."""
    shown = _values_shown(lines, mark)
    for line in lines:
        steps, values = line.curve.steps, line.curve.values
        finite = np.isfinite(values)
        name = f"{line.label}: " if line.label else ""
        if not finite.all():
            yield f"{name}{(~finite).sum()} of {len(values)} values are not finite, from step {steps[~finite][0]:,} on."
        beyond = np.where(finite, np.maximum(values - shown.high, shown.low - values), -np.inf)
        if (beyond > 0).any():
            at = int(np.argmax(beyond))
            count = int((beyond > 0).sum())
            yield f"{name}{count} of {len(values)} values lie outside, up to {short(values[at])} at step {steps[at]:,}."


def short(value: float) -> str:
    """A number for people: 0.1234, 12.35, 1234, 2e-4."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
        trimmed = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{trimmed}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """Round numbers from `low` to `high`, at most about `count` of them: multiples of 1, 2 or 5 of a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _values_shown(lines: Sequence[Line], mark: Mark | None) -> Range:
    """The axis for these lines: a few outliers may leave it, the mark may not, and 0 joins when it is near."""
    values = np.concatenate([line.curve.values for line in lines])
    values = values[np.isfinite(values)]
    if not len(values):
        return Range(0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(edge) for edge in np.percentile(values, [_OUTLIERS, 100.0 - _OUTLIERS]))
    if inner_high > inner_low and high - low > _STRETCH * (inner_high - inner_low):
        low, high = max(low, 1.5 * inner_low - 0.5 * inner_high), min(high, 1.5 * inner_high - 0.5 * inner_low)
    if mark is not None:
        low, high = min(low, mark.value), max(high, mark.value)
    if 0.0 <= low < 0.5 * high:
        low = 0.0
    if high - low < 1e-9 * max(abs(high), abs(low), 1e-30):  # a constant
        room = abs(high) / 2 or 0.5
        return Range(low - room, high + room)
    room = 0.05 * (high - low)
    return Range(low if low == 0.0 else low - room, high + room)


def _steps_shown(lines: Sequence[Line]) -> Range:
    first = min((int(line.curve.steps[0]) for line in lines if len(line.curve.steps)), default=0)
    last = max((int(line.curve.steps[-1]) for line in lines if len(line.curve.steps)), default=1)
    return Range(0.0 if first < 0.5 * last else first - 0.5 * (first == last), last + 0.5 * (first == last))


def _grid(up: Range) -> Iterator[str]:
    marks = ticks(up.low, up.high, 4)
    spacing = marks[1] - marks[0] if len(marks) > 1 else abs(up.high - up.low)
    for value in marks:
        y = _number(_y(up, value))
        yield f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>'
        yield f'<text class="tick up" x="{_LEFT - 6}" y="{y}">{_tick(value, spacing)}</text>'


def _step_labels(across: Range) -> Iterator[str]:
    marks = [value for value in ticks(across.low, across.high) if value == int(value)]
    spacing = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        x = _LEFT + float(across.share(np.array(value))) * _INNER_WIDTH
        anchor = " last" if x > _WIDTH - 2 * _RIGHT else ""
        yield f'<path class="notch" d="M{_number(x)} {_HEIGHT - _BOTTOM}v4"/>'
        yield f'<text class="tick{anchor}" x="{_number(x)}" y="{_HEIGHT - 5}">{_tick(value, spacing)}</text>'


def _tick(value: float, spacing: float) -> str:
    """A label with as many digits as the distance to the next one needs: 0.25, 20k, 1e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 1000 and spacing >= 100:
        return f"{value / 1000:.{0 if spacing % 1000 == 0 else 1}f}k" if abs(value) < 1e6 else f"{value / 1e6:.4g}M"
    if spacing < 1e-3 or abs(value) >= 1e6:
        return short(value)
    return f"{value:.{max(0, -math.floor(math.log10(spacing) + 1e-9))}f}"


def _y(up: Range, value: float) -> float:
    return _TOP + (1.0 - float(up.share(np.array(value)))) * _INNER_HEIGHT


def _path(across: Floats, up: Floats) -> str:
    """Points in 0..1 as path data; pieces between gaps, and a piece of one point is a dot."""
    pieces: list[list[str]] = [[]]
    for x, y in zip(across, up, strict=True):
        if math.isfinite(y):
            place = _number((1.0 - min(max(y, -10.0), 10.0)) * _INNER_HEIGHT)
            pieces[-1].append(f"{_number(x * _INNER_WIDTH)} {place}")
        elif pieces[-1]:
            pieces.append([])
    return "".join(f"M{piece[0]}" + ("L" + " ".join(piece[1:]) if piece[1:] else "h.01") for piece in pieces if piece)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
