"""`cyclegan-edge webcam`: a camera in, its translated picture on a screen, on a page or in a file."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.cli.engine import offer_rebuild
from cyclegan_edge.cli.options import Yes, parse_size
from cyclegan_edge.contract import Precision
from cyclegan_edge.errors import CycleGanEdgeError, SinkError
from cyclegan_edge.geometry import Fit

if TYPE_CHECKING:
    from cyclegan_edge.contract import Size
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.frames import BgrPicture, Source
    from cyclegan_edge.video.loop import View
    from cyclegan_edge.video.sinks import Sink
    from cyclegan_edge.video.timings import FrameTiming, LiveSummary, Recent, Timings


def webcam(
    model: Annotated[
        Path | None, typer.Argument(help="An exported model.", show_default="the newest in models/")
    ] = None,
    source: Annotated[
        str, typer.Option(help="0, /dev/video0, csi://0, rtsp://…, http://…, a video file, or synthetic.")
    ] = "0",
    camera_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Ask the camera for this size.", show_default=False)
    ] = None,
    camera_fps: Annotated[
        float | None, typer.Option(min=1, max=1000, help="Ask the camera for this rate.", show_default=False)
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="auto: the fastest that runs here.")] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(help="Of the numbers inside.", show_default="fp16 on a GPU, fp32 on the CPU"),
    ] = None,
    fit: Annotated[
        Fit,
        typer.Option(help="aspect: the short side becomes SIZE; stretch: both do; native: the picture's own size."),
    ] = "aspect",
    size: Annotated[
        int | None,
        typer.Option(help="Pixels the model works at; smaller is faster.", show_default="as trained"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a CPU engine.", show_default="every core")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Record to this .mp4 or .avi, instead of a window.", show_default=False)
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Show it on a page in a browser, instead of a window.")] = False,
    port: Annotated[int, typer.Option(help="Of the page; 0: any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Of the page; 0.0.0.0 lets the whole network watch.")] = "127.0.0.1",
    headless: Annotated[bool, typer.Option("--headless", help="No window: measure only.")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many.", show_default=False)] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this long.", show_default=False)] = None,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", help="Input left, output right.")] = False,
    overlay: Annotated[bool, typer.Option(help="Rate and latency on the picture.")] = True,
    yes: Yes = False,
) -> None:
    """Translate what SOURCE sees, live, and say how fast and how late it was.

    q, Esc or Ctrl-C end it. A live source never queues: when the model is slower, the newest frame wins.
    """
    from cyclegan_edge.bundle import newest_bundle
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.loop import translate_frames, warm_up
    from cyclegan_edge.video.newest import as_live
    from cyclegan_edge.video.sources import open_source
    from cyclegan_edge.video.timings import Timings

    folder = model or newest_bundle()
    watched = web or not (out or headless)
    _check_sinks(source, out=out, web=web, window=watched and not web)
    asked = parse_size(camera_size, "camera-size") if camera_size else None
    offer_rebuild(folder, engine=engine, precision=precision, yes=yes)
    opened = open_source(source, size=asked, fps=camera_fps, notify=lambda line: console.print(line, markup=False))
    timings = Timings()
    with contextlib.ExitStack() as stack:
        feed = as_live(opened, live=watched or (source == "synthetic" and not out))
        stack.callback(feed.close)
        translator = Translator.load(
            folder,
            engine=engine,
            precision=precision,
            fit=fit,
            size=size,
            threads=threads,
        )
        _describe(folder, translator, feed, asked)
        about = {"model": folder.name, "engine": translator.name, "device": translator.device, "source": feed.name}
        shown = (feed.size[0], feed.size[1] * (2 if side_by_side else 1))
        address = (host, port) if web else None
        sink = stack.enter_context(_sinks(feed, shown, out, address, about, timings, window=watched and not web))
        console.print(f"Warm-up {warm_up(translator, feed.size):.1f} s, not counted.")
        view = _view(timings, side_by_side, overlay)
        loop = translate_frames(feed, translator, sink, view=view, frames=frames, seconds=seconds)
        broken = _watch(loop, timings, total=frames or feed.length)
    _print_summary(timings.summary(), feed)
    if broken is not None:
        raise broken
    console.print(f"\nNext: [bold]{escape(_next(folder, feed.name if '://' in source else source, watched))}[/bold]")


def _check_sinks(source: str, *, out: Path | None, web: bool, window: bool) -> None:
    """Refuse before anything slow is opened."""
    if window:
        from cyclegan_edge.video.sinks import check_display

        check_display()
    if web:
        from cyclegan_edge.web.server import check_web

        check_web()
    if out is not None and out.exists() and Path(source).exists() and out.samefile(source):
        raise SinkError(f"{out} is also the source; name another file to record to.")


@contextlib.contextmanager
def _sinks(
    feed: "Source",
    size: "Size",
    out: Path | None,
    address: tuple[str, int] | None,
    about: dict[str, str],
    timings: "Timings",
    *,
    window: bool,
) -> Iterator["Sink"]:
    """Every sink that was asked for, as one; says where each is."""
    from cyclegan_edge.video.sinks import TeeSink, open_video, open_window

    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = []
        if window:
            console.print("Shown   in a window; q or Esc ends it.")
            sinks.append(stack.enter_context(open_window(f"cyclegan-edge: {about['model']}", size)))
        if address is not None:
            from cyclegan_edge.web.server import open_page

            page = stack.enter_context(open_page(*address, about=about, stats=timings.recent))
            console.print(f"Shown   at [bold]{escape(page.url)}[/bold]; Ctrl-C ends it.")
            sinks.append(page)
        if out is not None:
            sinks.append(stack.enter_context(open_video(out, size=size, fps=feed.fps, live=feed.live)))
            console.print(f"Record  {out}; Ctrl-C ends it.", markup=False)
        yield TeeSink(sinks)


def _view(timings: "Timings", side_by_side: bool, overlay: bool) -> "View":
    from cyclegan_edge.video import overlay as pictures

    def view(image: "BgrPicture", translated: "BgrPicture") -> "BgrPicture":
        picture = pictures.side_by_side(image, translated) if side_by_side else translated
        return pictures.draw(picture, pictures.lines_of(timings.recent())) if overlay else picture

    return view


def _watch(loop: "Iterator[FrameTiming]", timings: "Timings", *, total: int | None) -> CycleGanEdgeError | None:
    """Run the loop to its end; Ctrl-C and SIGTERM are an end like any other.

    An error after the first frame is returned, so that what was recorded and measured until then is kept.
    """
    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt), progress_bar() as bar:
            task = bar.add_task("translating", note="", total=total)
            for timing in loop:
                timings.add(timing)
                bar.update(task, advance=1, note=_note(timings.recent()))
    except CycleGanEdgeError as error:
        if not timings.summary().frames:
            raise
        return error
    finally:
        signal.signal(signal.SIGTERM, terminate)
    return None


def _note(recent: "Recent") -> str:
    return f"{recent.fps:.1f} fps, {recent.median.age:.0f} ms" if recent.fps else ""


def _describe(folder: Path, translator: "Translator", feed: "Source", asked: "Size | None") -> None:
    height, width = feed.size
    console.print(f"Model   {folder}", markup=False)
    how = "the picture's own size" if translator.fit == "native" else f"{translator.size} px, fit {translator.fit}"
    console.print(f"Engine  {translator.name} on {translator.device}, {how}", markup=False)
    for reason in translator.passed_over:
        console.print(f"        {reason}", markup=False)
    console.print(f"Source  {feed.name}, {width}x{height} at {feed.fps:.4g} fps", markup=False)
    if asked not in {None, feed.size}:
        console.print(f"        [yellow]It was asked for {asked[1]}x{asked[0]} but gives {width}x{height}.[/yellow]")
    console.print("        The newest frame wins." if feed.live else "        Every frame, in order.")


def _print_summary(summary: "LiveSummary", feed: "Source") -> None:
    from rich.table import Table

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
        f"{summary.dropped} dropped. A frame counts as captured when {feed.stamp}."
    )


def _next(folder: Path, source: str, watched: bool) -> str:
    """The command that is likely to be wanted now."""
    if source == "synthetic":
        return f"cyclegan-edge webcam {folder}   (the camera; --source chooses another)"
    if watched:
        return f"cyclegan-edge webcam {folder} --source {source} --out clip.mp4   (record it)"
    return f"cyclegan-edge webcam {folder} --source {source} --web   (watch it in a browser)"
