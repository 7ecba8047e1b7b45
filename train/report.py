"""A run as one page, runs/<name>/report.html, which opens anywhere and asks the network for nothing.

It shows settings.toml, metrics.jsonl, samples/, the newest of evaluation/*.json and warnings.txt, whichever are there.
All of that is data from outside: bounded in size here, escaped by the template.
"""

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from importlib.metadata import version
from io import StringIO
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cyclegan_edge.errors import CheckpointError, ImageError
from cyclegan_edge.files import write_file
from cyclegan_edge.images import encode_image, read_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.settings import read_toml
from cyclegan_edge.train import metrics_log
from cyclegan_edge.train.metrics_log import Curve, read_curves

NAME = "report.html"

Floats = npt.NDArray[np.float64]

_TEMPLATE = Path(__file__).with_name("report_template.html")
_BYTES = 1 << 20  # of a text file that is read, at most
_WARNINGS, _ROWS, _DEPTH, _LENGTH = 20, 200, 6, 300  # warnings, rows of a table, nested names, characters of a value
_TIMELINE, _LARGE, _SMALL = 12, 1200, 640  # sample sheets; px of the longer side of the newest, and of the others
_BINS = 400  # of a curve: about the pixels of a phone

_DIRECTIONS = {"_ab": "A → B", "_ba": "B → A", "_a": "A", "_b": "B"}  # tags that differ by these share a chart
_QUIET, _LINE = "#000005", "#000006"
_COLOURS = {  # what is drawn, and the colour of the page that takes its place
    "#000001": "one", "#000002": "two", "#000003": "three", "#000004": "four", _QUIET: "quiet", _LINE: "line",
}  # fmt: skip
_CHARTS = {  # tag without its direction -> title, and what the chart should look like; in the order of the page
    "evaluation/fid": ("FID", "Distance to the real pictures: falls."),
    "evaluation/kid": ("KID", "Distance to the real pictures: falls."),
    "evaluation/l1_levels": ("There and back: L1, levels of 255", "Distance of a picture from itself: falls."),
    "evaluation/psnr_db": ("There and back: PSNR, dB", "Rises."),
    "evaluation/psnr_translated_db": ("To the truth: PSNR, dB", "Rises."),
    "evaluation/ssim_translated": ("To the truth: SSIM", "Rises, to 1 at most."),
    "loss/gan": ("GAN", "Hovers about a draw. Far above it, the generators fool nobody."),
    "loss/discriminator": ("Discriminator", "Hovers below a draw. Near 0 it has won, and teaches little."),
    "loss/cycle": ("Cycle", "Distance of a picture, there and back, from itself, 0 to 2: falls, and stays down."),
    "loss/identity": ("Identity", "Change of a picture that is in the target domain already, 0 to 2: falls."),
    "gradient_norm/generators": ("Generators", "Level: a climb comes before losses that are not finite."),
    "gradient_norm/discriminators": ("Discriminators", "Level: a climb comes before losses that are not finite."),
    "learning_rate": ("Learning rate", "Constant, then linear to 0: much of the detail comes at the end."),
    "pairs_per_second": ("Speed, pairs/s", "Level; dips are samples, evaluations and checkpoints."),
    "data_wait_share": ("Waiting for pictures, share of the time", "Near 0; well above it, use more workers."),
    "memory_gib": ("Memory, GiB", "The most that was taken so far: level after the first steps."),
}
_CONTESTS = "loss/gan", "loss/discriminator"
_DRAWS = {"lsgan": (0.25, 0.25), "vanilla": (math.log(2.0), math.log(2.0)), "hinge": (0.0, 1.0)}  # nothing can be told


def write_report(run: Path) -> Path:
    """Write `run`/report.html from what lies in the folder, whole or not at all, and return its path.

    Raises CheckpointError when `run` is no run, ConfigError for settings that are not TOML, SinkError when the disk
    refuses.
    """
    from jinja2 import Environment, StrictUndefined  # as matplotlib: only who writes a report needs it

    stored = run / "settings.toml"
    if not stored.is_file() and not (run / metrics_log.NAME).is_file():
        raise CheckpointError(f"{run} holds no run, expected settings.toml and metrics.jsonl; name a folder in runs/.")
    settings = _rows(read_toml(stored)) if stored.is_file() and stored.stat().st_size <= _BYTES else {}
    curves = read_curves(run)
    warnings = [line[:_LENGTH] for line in _read_text(run / "warnings.txt").splitlines() if line.strip()]
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=run.resolve().name,
        tiles=list(_tiles(curves, settings)),
        warnings=len(warnings),
        last_warnings=warnings[: -_WARNINGS - 1 : -1],
        samples=_samples(
            run / "samples", last_step=max((curve.steps[-1] for curve in curves.values()), default=math.inf)
        ),
        groups=_groups(curves, settings.get("objective.gan", "")),
        evaluation=_evaluation(run / "evaluation"),
        settings=settings,
        footer=f"Written {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by cyclegan-edge {version('cyclegan-edge')}.",
    )
    write_file(run / NAME, text)
    return run / NAME


def _read_text(path: Path) -> str:
    """A text file; "" when it is missing or too large."""
    return path.read_text("utf-8", "replace") if path.is_file() and path.stat().st_size <= _BYTES else ""


def _tiles(curves: Mapping[str, Curve], settings: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Name, value and a remark."""
    if (seconds := curves.get("seconds")) is not None:
        total = settings.get("schedule.steps", "")
        yield "Steps", f"{seconds.steps[-1]:,}", f"of {total}" if total else ""
        yield "Time in training", str(timedelta(seconds=round(np.nan_to_num(seconds.values[-1]).clip(0, 1e9)))), ""
    if (speed := curves.get("pairs_per_second")) is not None:
        yield "Speed", _short(speed.values[-len(speed.values) // 10 :].mean()), "pairs/s, in the last tenth"
    for tag in _CHARTS:
        if tag.startswith("evaluation/") and (curve := curves.get(tag)) is not None:
            yield _CHARTS[tag][0], _short(curve.values[-1]), f"at step {curve.steps[-1]:,}"


def _samples(folder: Path, *, last_step: float) -> list[tuple[str, str]]:
    """Step and JPEG of the newest readable sheet, large, and then of up to a dozen spread over the run."""
    found = {int(path.stem[5:]): path for path in folder.glob("*") if re.fullmatch(r"step_\d{1,18}\.jpg", path.name)}
    steps = sorted(step for step in found if step <= last_step)  # later ones were left behind by a past that is undone
    while steps and not _jpeg(found[steps[-1]], _LARGE):
        steps.pop()
    if not steps:
        return []
    nearest = {int(np.abs(np.array(steps) - wanted).argmin()) for wanted in np.linspace(steps[0], steps[-1], _TIMELINE)}
    strips = [(steps[place], _jpeg(found[steps[place]], _SMALL, translated=True)) for place in sorted(nearest)]
    return [(f"{step:,}", jpeg) for step, jpeg in [(steps[-1], _jpeg(found[steps[-1]], _LARGE)), *strips] if jpeg]


def _jpeg(path: Path, side: int, *, translated: bool = False) -> str:
    """A sheet, or its middle column, at most `side` pixels high and wide, as JPEG in base64; "" for a damaged one."""
    try:
        sheet = read_image(path)
    except ImageError:
        return ""
    third = sheet.shape[1] // 3
    sheet = np.ascontiguousarray(sheet[:, third : sheet.shape[1] - third]) if translated else sheet
    scale = min(1.0, side / max(sheet.shape))
    smaller = resize(sheet, (max(1, round(sheet.shape[0] * scale)), max(1, round(sheet.shape[1] * scale))))
    return base64.b64encode(encode_image(smaller, ".jpg", str(path), quality=88)).decode()


def _groups(curves: Mapping[str, Curve], gan: str) -> dict[str, list[dict[str, object]]]:
    """Charts by the part of their tags before the slash; both directions of a tag share one."""
    shared: dict[str, dict[str, Curve]] = {}
    for tag, curve in curves.items():
        suffix = next((suffix for suffix in _DIRECTIONS if tag.endswith(suffix)), "")
        shared.setdefault(tag.removesuffix(suffix), {})[_DIRECTIONS.get(suffix, "")] = curve
    shared.pop("seconds", None)
    groups: dict[str, list[dict[str, object]]] = {}
    for stem in [*(tag for tag in _CHARTS if tag in shared), *sorted(shared.keys() - _CHARTS.keys())]:
        group, _, name = stem.rpartition("/")
        title, note = _CHARTS.get(stem, (name.replace("_", " "), ""))
        mark = dict(zip(_CONTESTS, _DRAWS.get(gan, ()), strict=False)).get(stem)
        chart = _chart(shared[stem], mark, noisy=group in ("loss", "gradient_norm"))
        groups.setdefault(group, []).append({"title": title, "note": note, **chart})
    return groups


def _chart(curves: Mapping[str, Curve], mark: float | None, *, noisy: bool) -> dict[str, object]:
    """An <svg> without text from outside, where each line ends, and how many values are not on it."""
    import matplotlib  # takes a second
    from matplotlib.figure import Figure  # no pyplot, so no window and no state of its own

    figure = Figure(figsize=(4.8, 2.2))
    axes = figure.add_axes((0.11, 0.12, 0.87, 0.84))
    ends = []
    for (label, curve), colour in zip(curves.items(), _COLOURS, strict=False):
        steps, band, strong = _binned(curve, noisy=noisy)
        axes.plot(np.repeat(steps, 2), band, color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(steps, strong, color=colour, linewidth=1.8, marker="" if len(steps) > 30 else "o", markersize=3)
        ends.append((label, _short(strong[-1])))
    if mark is not None:
        axes.axhline(mark, color=_QUIET, linewidth=1, linestyle=":")
    values = np.concatenate([curve.values for curve in curves.values()])
    finite = values[np.isfinite(values)]
    shown = np.append(finite, [] if mark is None else mark)
    low, high = np.percentile(shown, [1, 99]) if len(shown) else (0.0, 0.0)  # outliers may leave the chart
    room = 0.25 * (high - low) or 0.5 * abs(high) or 1.0
    axes.set_ylim(0.0 if 0.0 <= low < 0.5 * high else low - room, high + room)
    axes.locator_params("x", nbins=5, integer=True)
    axes.locator_params("y", nbins=4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: _short(value))
    axes.tick_params(colors=_QUIET, length=0, labelsize=8)
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.spines[:].set_visible(False)
    text = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])  # ids that would be on the page once per chart
    for placeholder, colour in _COLOURS.items():
        svg = svg.replace(placeholder, f"var(--{colour})")
    bottom, top = axes.get_ylim()
    missing = len(values) - int(((finite >= bottom) & (finite <= top)).sum())
    return {"svg": svg, "ends": ends, "mark": "" if mark is None else _short(mark), "missing": missing}


def _binned(curve: Curve, *, noisy: bool) -> tuple[Floats, Floats, Floats]:
    """(n,) steps, (2n,) least and greatest values by turns, (n,) means, smoothed if noisy; NaN for none finite."""
    bins = min(len(curve.values), _BINS)
    parts = np.array_split(np.ma.masked_invalid(curve.values), bins)
    steps = np.array([part.mean() for part in np.array_split(curve.steps, bins)])
    band = np.array([np.ma.filled(edge, np.nan) for part in parts for edge in (part.min(), part.max())])
    means = np.ma.masked_invalid([np.ma.filled(part.mean(), np.nan) for part in parts])
    weights = np.hanning(2 * (bins // 25 if noisy else 0) + 3)[1:-1]  # without its zeros
    total = np.convolve(means.filled(0.0), weights, "same")
    weight = np.convolve(~np.ma.getmaskarray(means), weights, "same")
    return steps, band, np.where(np.ma.getmaskarray(means), np.nan, total / np.maximum(weight, 1e-9))


def _evaluation(folder: Path) -> dict[str, object]:
    """Figures and protocol of the newest readable file; {} without one."""
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True):
        try:
            found = json.loads(_read_text(path))
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            figures = {
                _CHARTS.get(f"evaluation/{name.rpartition('.')[2]}", (name,))[0]: value
                for name, value in _rows(found.pop("quality", {})).items()
            }
            return {"name": path.name, "figures": figures, "protocol": _rows(found)}
    return {}


def _rows(values: object) -> dict[str, str]:
    """Nested settings or results as dotted names and values, the first 200."""
    return dict(islice(_flatten(values, ()), _ROWS))


def _flatten(values: object, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(values, dict) and len(names) < _DEPTH:
        for name, value in values.items():
            yield from _flatten(value, (*names, str(name)))
    elif values is not None:
        text = _short(values) if isinstance(values, float) else str(values).strip("[]")
        yield ".".join(names)[:_LENGTH], text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


def _short(value: float) -> str:
    """A number for people: 0.1235, 12.35, 1,234, 2e-04."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"
