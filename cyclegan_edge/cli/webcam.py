"""`cyclegan-edge webcam`: a camera in, its translated picture on a screen, on a page, in a file or as a camera."""

import contextlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.cli.engine import offer_rebuild
from cyclegan_edge.cli.options import EngineOption, FitOption, SizeOption, Yes, parse_size
from cyclegan_edge.contract import WantedPrecision
from cyclegan_edge.errors import ConfigError, CycleGanEdgeError, EngineError, SinkError

if TYPE_CHECKING:
    from cyclegan_edge.live import Live, LiveConfig
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.frames import Notify
    from cyclegan_edge.video.timings import Recent, Timings

Log = Literal["text", "json"]
Require = Literal["gpu"]

_JSON_EVERY = 60.0  # s between two lines
_UNITS = {"s": 1, "m": 60, "h": 3600}


def webcam(
    model: Annotated[
        Path | None,
        typer.Argument(help="An exported model.", show_default="the newest in models/, else landscapes"),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            help="0, /dev/video0, csi://0, rtsp://…, http://…, screen, a folder, a video file, browser or synthetic."
        ),
    ] = "0",
    camera_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Ask the camera for this size.", show_default=False)
    ] = None,
    camera_fps: Annotated[
        float | None, typer.Option(min=1, max=1000, help="Ask the camera for this rate.", show_default=False)
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again at its end.")] = False,
    engine: EngineOption = "auto",
    precision: Annotated[
        WantedPrecision,
        typer.Option(help="Of the numbers inside. any: fp16 on a GPU, on a CPU the fastest that is within its bound."),
    ] = "any",
    require: Annotated[
        Require | None, typer.Option(help="gpu: end instead of running on the CPU.", show_default=False)
    ] = None,
    fit: FitOption = "aspect",
    size: SizeOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a CPU engine.", show_default="every core")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Record to this .mp4, .mkv or .avi, instead of a window.", show_default=False)
    ] = None,
    segment: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin a new file each 10m, 1h, …", show_default=False)
    ] = None,
    window: Annotated[bool, typer.Option("--window", help="A window, also beside --out or --web.")] = False,
    web: Annotated[bool, typer.Option("--web", help="Show it on a page in a browser, instead of a window.")] = False,
    port: Annotated[int, typer.Option(help="Of the page; 0: any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Of the page; 0.0.0.0 lets the network watch, with a token.")] = "127.0.0.1",
    cert: Annotated[Path | None, typer.Option(help="PEM certificate: https.", show_default=False)] = None,
    key: Annotated[Path | None, typer.Option(help="The key of --cert.", show_default=False)] = None,
    virtual_camera: Annotated[
        str | None,
        typer.Option(metavar="DEVICE|auto", help="Be a camera for other programs (v4l2loopback).", show_default=False),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No window: measure only.")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many.", show_default=False)] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this long.", show_default=False)] = None,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", help="Input left, output right.")] = False,
    overlay: Annotated[bool, typer.Option(help="Rate and latency on the picture.")] = True,
    smooth: Annotated[bool, typer.Option("--smooth", help="Less flicker where nothing moves.")] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Run no engine while the picture stays the same.")] = False,
    log: Annotated[Log, typer.Option(help="json: a line of JSON a minute and at the end.")] = "text",
    yes: Yes = False,
) -> None:
    """Translate what SOURCE sees, live, and say how fast and how late it was.

    A live source never queues: when the model is slower, the newest frame wins. Ctrl-C ends it, in a window q or Esc;
    there s saves a snapshot, r records, space freezes and v splits the picture.
    """
    from cyclegan_edge.bundle import included_bundle, newest_bundle
    from cyclegan_edge.live import LiveConfig, PageConfig, open_live
    from cyclegan_edge.translator import Translator

    folder = included_bundle(model) or model if model else newest_bundle()
    if (cert is None) != (key is None):
        raise ConfigError("--cert and --key belong together; give both, or neither.")
    notify = _notify(log)
    config = LiveConfig(
        source=source,
        camera_size=parse_size(camera_size, "camera-size") if camera_size else None,
        camera_fps=camera_fps,
        loop=loop,
        window=window or _is_window_wanted(bool(out or web or virtual_camera or headless), notify),
        out=out,
        segment=_parse_time(segment) if segment else None,
        page=PageConfig(host=host, port=port, certificate=(cert, key) if cert and key else None) if web else None,
        virtual_camera=virtual_camera,
        layout="side-by-side" if side_by_side else "translated",
        overlay=overlay,
        smooth=smooth,
        skip=skip,
    )
    offer_rebuild(folder, engine=engine, precision=precision, yes=yes)

    def load(bundle: Path) -> "Translator":
        translator = Translator.load(
            bundle, engine=engine, precision=precision, fit=fit, size=size, threads=threads, mirrored=True
        )
        if require == "gpu" and translator.device.startswith("CPU"):
            raise EngineError(
                f"{bundle} would run on the {translator.device} with {translator.name}, but --require gpu asks for a "
                f"GPU; see what `cyclegan-edge doctor` says of it."
            )
        return translator

    with open_live(config, folder, load, notify=notify) as live:
        if log == "text":
            _describe(folder, live, config)
        broken = _watch(live, log, frames=frames, seconds=seconds)
    _print_summary(live, log)
    if broken is not None:
        raise broken
    if log == "text":
        shown = live.source.name if "://" in source else source
        console.print(f"\nNext: [bold]{escape(_next(_named(folder), shown, config.watched))}[/bold]")


def _is_window_wanted(elsewhere: bool, notify: "Notify") -> bool:
    """A window, unless it goes elsewhere or there is no display, which is said."""
    if elsewhere:
        return False
    from cyclegan_edge.video.sinks import check_display

    try:
        check_display()
    except SinkError as error:
        notify(f"Nothing is shown: {error}")
        return False
    return True


def _parse_time(text: str) -> float:
    """ "10m" -> 600.0 s. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"segment is {text!r}, expected a number and s, m or h; try 10m.")
    return float(match[1]) * _UNITS[match[2]]


def _notify(log: Log) -> "Notify":
    if log == "json":
        return lambda line: _print_json({"notice": line})
    return lambda line: console.print(line, markup=False)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps({"time": round(time.time(), 3), **content}))


def _watch(live: "Live", log: Log, *, frames: int | None, seconds: float | None) -> CycleGanEdgeError | None:
    """Run to the end; Ctrl-C, SIGTERM and a lost terminal are ends like any other, and what is open is finished.

    An error after the first frame is returned, so that what was recorded and measured until then is kept.
    """
    timings = live.timings
    try:
        with (
            _ending_once(),
            contextlib.suppress(KeyboardInterrupt),
            _progress(log, frames or live.source.length) as tell,
        ):
            for _ in live.run(frames=frames, seconds=seconds):
                tell(timings)
    except CycleGanEdgeError as error:
        if not timings.summary().frames:
            raise
        return error
    return None


@contextlib.contextmanager
def _ending_once() -> Iterator[None]:
    """The first of SIGINT, SIGTERM and SIGHUP ends the run; supervisors send several, and the others are ignored."""
    told = False

    def end(number: int, frame: object) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(log: Log, total: int | None) -> Iterator[Callable[["Timings"], None]]:
    """What is told while it runs: a bar, or lines where there is no terminal; or JSON once a minute."""
    if log == "text":
        with progress_bar() as bar:
            task = bar.add_task("translating", note="", total=total)
            yield lambda timings: bar.update(task, advance=1, note=_note(timings.recent()))
        return
    due = time.monotonic() + _JSON_EVERY

    def tell(timings: "Timings") -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += _JSON_EVERY
            recent = timings.recent()
            numbers = {"frames": recent.frames, "dropped": recent.dropped, "fps": recent.fps}
            _print_json({**numbers, "age_ms": recent.median.age})

    yield tell


def _note(recent: "Recent") -> str:
    return f"{recent.fps:.1f} fps, {recent.median.age:.0f} ms" if recent.fps else ""


def _describe(folder: Path, live: "Live", config: "LiveConfig") -> None:
    translator, feed = live.translator, live.source
    height, width = feed.size
    name = _named(folder)
    console.print(f"Model   {name}{'' if name == folder else ', which comes with the package'}", markup=False)
    how = "the picture's own size" if translator.fit == "native" else f"{translator.size} px, fit {translator.fit}"
    console.print(f"Engine  {translator.name} on {translator.device}, {how}", markup=False)
    for remark in translator.remarks:
        console.print(f"        {remark}", markup=False)
    console.print(f"Source  {feed.name}, {width}x{height} at {feed.fps:.4g} fps", markup=False)
    asked = config.camera_size
    if asked is not None and asked != feed.size:
        console.print(f"        [yellow]It was asked for {asked[1]}x{asked[0]} but gives {width}x{height}.[/yellow]")
    console.print("        The newest frame wins." if feed.live else "        Every frame, in order.")
    if config.window:
        console.print("Shown   in a window; q ends it, s saves a snapshot, r records, space freezes, v splits.")
    if live.link is not None:
        console.print(f"Shown   at [bold]{escape(live.link)}[/bold]; Ctrl-C ends it.")
        if "token=" in live.link and console.is_terminal:
            console.print(_qr_code(live.link), markup=False)
    if config.out is not None:
        console.print(f"Record  {config.out}; Ctrl-C ends it.", markup=False)
    console.print(f"Warm-up {live.warm_up:.1f} s, not counted.")


def _qr_code(link: str) -> str:
    import io

    import segno

    drawn = io.StringIO()
    segno.make(link, micro=False).terminal(drawn, border=2, compact=True)
    return drawn.getvalue()


def _print_summary(live: "Live", log: Log) -> None:
    from rich.table import Table

    summary, pipeline = live.timings.summary(), live.pipeline
    if log == "json":
        stages = {f"{name}_ms": round(value, 2) for name, value in summary.median._asdict().items()}
        counts = {"engine_failures": pipeline.engine_failures, "skipped": pipeline.skipper.skipped}
        _print_json({"frames": summary.frames, "dropped": summary.dropped, "fps": summary.fps, **stages, **counts})
        return
    if not summary.frames:
        console.print("No frame was shown.")
        return
    table = Table("", "median", "95 %", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, median, p95 in zip(summary.median._fields, summary.median, summary.p95, strict=True):
        label = "capture to show" if name == "age" else name
        table.add_row(label, f"{median:.1f} ms", f"{p95:.1f} ms", style="bold" if name == "age" else None)
    console.print()
    console.print(table)
    console.print(
        f"{summary.frames} frames in {summary.seconds:.1f} s: [bold]{summary.fps:.1f} fps[/bold], "
        f"{summary.dropped} dropped. A frame counts as captured when {live.source.stamp}."
    )
    if pipeline.skipper.skipped:
        console.print(f"{pipeline.skipper.skipped} of them were like the one before, and no engine ran.")
    if pipeline.engine_failures:
        console.print(f"[yellow]The engine failed on {pipeline.engine_failures} frames, which were left out.[/yellow]")


def _named(folder: Path) -> Path:
    """What the user has to type for it."""
    from cyclegan_edge.bundle import INCLUDED

    return Path(folder.name) if folder.parent == INCLUDED else folder


def _next(folder: Path, source: str, watched: bool) -> str:
    """The command that is likely to be wanted now."""
    if source == "synthetic":
        return f"cyclegan-edge webcam {folder}   (the camera; --source chooses another)"
    if watched:
        return f"cyclegan-edge webcam {folder} --source {source} --out clip.mp4   (record it)"
    return f"cyclegan-edge webcam {folder} --source {source} --web   (watch it in a browser)"
