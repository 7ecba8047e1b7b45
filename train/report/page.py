"""Puts the page together.

    settings.toml                       the table of settings; what the losses mean depends on them
    events.out.tfevents...              curves, one group per part of a tag before its slash
    samples/step_N.jpg                  the newest, large, and a dozen spread over the run
    evaluation/*.json                   the newest as a table
    warnings.txt                        one sentence a line

Whatever is missing is left out. All of it is data from outside: bounded in size, and escaped.
"""

import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import torch

from cyclegan_edge.errors import CheckpointError, ConfigError, SinkError
from cyclegan_edge.files import atomic_file
from cyclegan_edge.train.report.chart import Line, draw, off_the_chart, short
from cyclegan_edge.train.report.curves import Curve, read_curves, time_spent
from cyclegan_edge.train.report.guide import (
    HINTS,
    Guide,
    group_order,
    group_title,
    guide_of,
    in_order,
    is_noisy,
    readable,
)
from cyclegan_edge.train.report.samples import samples_section
from cyclegan_edge.train.report.tables import table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "report.html"

_DIRECTIONS = {"_ab": "A → B", "_ba": "B → A", "_a": "A", "_b": "B"}  # tags that differ by these share a chart
_WARNINGS = 20  # the last so many are shown
_MAX_BYTES = 1 << 20  # of a text file that is read
_RECENT = 0.1  # part of a run that its speed is averaged over


def write_report(run: Path) -> Path:
    """Write `run`/report.html from what lies in the folder, whole or not at all, and return its path.

    Flush the TensorBoard writer of a run that still goes on first. Raises CheckpointError when `run` is no run,
    ConfigError for settings that are no TOML, SinkError when the disk refuses.
    """
    if not (run / "settings.toml").is_file() and not any(run.glob("*tfevents*")):
        raise CheckpointError(
            f"{run} holds no run, expected settings.toml and TensorBoard's files; name a folder in runs/."
        )
    settings = _read_settings(run / "settings.toml")
    curves = read_curves(run)
    sections = (
        _warnings(run / "warnings.txt"),
        samples_section(run / "samples"),
        *_charts(curves, _gan(settings)),
        _evaluation(run / "evaluation"),
        _hints(),
        _settings(settings),
    )
    page = Template(_beside("page.html")).substitute(
        title=escape(run.resolve().name),
        style=_beside("page.css"),
        tiles="".join(_tile(*tile) for tile in _facts(settings, curves)),
        sections="\n".join(section for section in sections if section),
        footer=escape(_footer(settings)),
    )
    target = run / NAME
    try:
        with atomic_file(target) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise SinkError(
            f"{target} cannot be written ({error.strerror}); check the folder and the free space."
        ) from error
    return target


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The settings file {path} is not valid TOML ({error}); correct it there.") from error


def _read_text(path: Path) -> str:
    """The end of a text file, at most `_MAX_BYTES` of it; "" when it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MAX_BYTES))
        return file.read(_MAX_BYTES).decode(errors="replace")


def _gan(settings: Mapping[str, Any]) -> str:
    objective = settings.get("objective")
    return str(objective.get("gan", "lsgan")) if isinstance(objective, dict) else "lsgan"


def _facts(settings: Mapping[str, Any], curves: Mapping[str, Curve]) -> Iterator[tuple[str, str, str]]:
    """Name, value and a remark, for the tiles at the top."""
    longest = max(curves.values(), key=lambda curve: int(curve.steps[-1]), default=None)
    schedule = settings.get("schedule", settings)
    total = schedule.get("steps") if isinstance(schedule, dict) else None
    if longest is not None:
        yield "Steps", f"{longest.steps[-1]:,}", f"of {total:,}" if isinstance(total, int) else ""
        yield "Time in training", str(timedelta(seconds=round(time_spent(longest)))), ""
    if (pace := curves.get("pairs_per_second")) is not None:
        recent = pace.values[-max(1, int(len(pace.values) * _RECENT)) :]
        yield "Speed", f"{recent.mean():.3g}", "pairs a second, lately"
    for tag, curve in curves.items():
        if tag.startswith("evaluation/"):
            yield (
                readable(tag.removeprefix("evaluation/")),
                short(float(curve.values[-1])),
                f"at step {curve.steps[-1]:,}",
            )


def _tile(name: str, value: str, remark: str) -> str:
    small = f"<small>{escape(remark)}</small>" if remark else ""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{small}</dd></div>"


def _footer(settings: Mapping[str, Any]) -> str:
    device = settings.get("device")
    cuda = device != "cpu" and torch.cuda.is_available()
    machine = torch.cuda.get_device_name() if cuda else _processor()
    return (
        f"Written {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by cyclegan-edge {version('cyclegan-edge')} "
        f"with torch {torch.__version__}, Python {platform.python_version()}, on {machine}."
    )


def _processor() -> str:
    named = re.search(r"^model name\s*:\s*(.+)$", _read_text(Path("/proc/cpuinfo")), re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _warnings(path: Path) -> str:
    lines = [line for line in _read_text(path).splitlines() if line.strip()]
    if not lines:
        return ""
    shown = "".join(f"<li>{escape(line)}</li>" for line in reversed(lines[-_WARNINGS:]))
    earlier = f", the last {_WARNINGS}" if len(lines) > _WARNINGS else ""
    return f'<section class="warnings"><h2>Warnings: {len(lines)}{earlier}</h2><ul>{shown}</ul></section>'


def _charts(curves: Mapping[str, Curve], gan: str) -> Iterator[str]:
    """One section per group, one chart per tag; both directions of a tag share one."""
    groups: dict[str, dict[str, list[Line]]] = {}
    for tag, curve in curves.items():
        stem, label = _direction(tag)
        group = tag.partition("/")[0] if "/" in tag else ""
        groups.setdefault(group, {}).setdefault(stem, []).append(Line(label, curve, noisy=is_noisy(tag)))
    for group in group_order(groups):
        title, introduction = group_title(group)
        intro = f'<p class="intro">{escape(introduction)}</p>' if introduction else ""
        figures = "".join(_figure(guide_of(stem, gan), lines) for stem, lines in in_order(groups[group]))
        yield f'<section><h2>{escape(title)}</h2>{intro}<div class="charts">{figures}</div></section>'


def _direction(tag: str) -> tuple[str, str]:
    """ "loss/cycle_a" -> "loss/cycle", "A"."""
    for suffix, label in _DIRECTIONS.items():
        if tag.endswith(suffix):
            return tag.removesuffix(suffix), label
    return tag, ""


def _figure(guide: Guide, lines: Sequence[Line]) -> str:
    unit = f" <small>{escape(guide.unit)}</small>" if guide.unit else ""
    note = f"<p>{escape(guide.note)}</p>" if guide.note else ""
    legend = "".join(
        f'<li><i class="line-{number}"></i>{escape(line.label)} <b>{short(float(line.clear[-1]))}</b></li>'
        for number, line in enumerate(lines, 1)
    )
    if guide.mark:
        legend += f'<li><i class="dotted"></i>{escape(guide.mark.label)} {short(guide.mark.value)}</li>'
    beyond = "".join(f'<p class="beyond">{escape(text)}</p>' for text in off_the_chart(lines, guide.mark))
    return (
        f'<figure class="card"><figcaption><h3>{escape(guide.title)}{unit}</h3>{note}</figcaption>'
        f'{draw(guide.title, lines, guide.mark)}<ul class="legend">{legend}</ul>{beyond}</figure>'
    )


def _evaluation(folder: Path) -> str:
    """The newest readable file as a table."""
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True):
        if path.stat().st_size > _MAX_BYTES:
            continue
        try:
            found = json.loads(_read_text(path))
        except (ValueError, RecursionError):
            continue
        values = found if isinstance(found, dict) else {"result": found}
        return f"<section><h2>Evaluation of the finished model</h2>{table(path.name, values)}</section>"
    return ""


def _hints() -> str:
    hints = "".join(f"<li>{escape(hint)}</li>" for hint in HINTS)
    return f"<details><summary>How to judge a run</summary><ul>{hints}</ul></details>"


def _settings(settings: Mapping[str, Any]) -> str:
    return f"<details><summary>Settings</summary>{table('settings.toml', settings)}</details>" if settings else ""
