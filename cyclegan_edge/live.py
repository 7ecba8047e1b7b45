"""One live run, put together: `open_live` opens what a `LiveConfig` asks for, `Live.run` yields a timing per frame.

What takes long comes last: the sinks are checked and the source is opened and drained before the model is, so that the
first picture shown is a fresh one.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.bundle import MANIFEST
from cyclegan_edge.contract import Size
from cyclegan_edge.errors import CycleGanEdgeError, SinkError, SourceError
from cyclegan_edge.translator import Translator
from cyclegan_edge.video import sources
from cyclegan_edge.video.frames import Notify, Source
from cyclegan_edge.video.overlay import Layout, LiveView
from cyclegan_edge.video.paced import Looped, Paced
from cyclegan_edge.video.pipeline import Pipeline, warm_up
from cyclegan_edge.video.reconnect import Reconnecting
from cyclegan_edge.video.recorder import Recorder, open_recording, open_video
from cyclegan_edge.video.session import Session
from cyclegan_edge.video.sinks import check_display, open_window
from cyclegan_edge.video.timings import FrameTiming, Timings
from cyclegan_edge.video.virtual_camera import open_virtual_camera
from cyclegan_edge.web.camera import BrowserSource

BROWSER = "browser"  # as a source
RECORDING = "recording.mp4"  # what a key or the page records to, where --out names nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class PageConfig:
    """Where the page is served."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any that is free
    certificate: tuple[Path, Path] | None = None  # PEM chain and key, for https


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveConfig:
    """What to read and where to show it."""

    source: str
    camera_size: Size | None = None  # asked of a camera
    camera_fps: float | None = None
    loop: bool = False  # a file begins again at its end
    window: bool = False
    out: Path | None = None
    segment: float | None = None  # s, of one file of a recording
    page: PageConfig | None = None
    virtual_camera: str | None = None  # a device, or "auto"
    layout: Layout = "translated"
    overlay: bool = True  # numbers on the picture
    smooth: bool = False
    skip: bool = False

    @property
    def watched(self) -> bool:
        """Whether somebody looks on while it runs."""
        return self.window or self.page is not None or self.virtual_camera is not None


def check_sinks(config: LiveConfig) -> None:
    """Refuse before anything slow is opened. Raises SinkError."""
    if config.window:
        check_display()
    if config.page is not None:
        from cyclegan_edge.web.server import check_web

        check_web()
    out, source = config.out, Path(config.source)
    if out is not None and out.exists() and source.exists() and out.samefile(source):
        raise SinkError(f"{out} is also the source; name another file to record to.")


class Live:
    """An opened run, made by `open_live`."""

    def __init__(self, source: Source, translator: Translator, pipeline: Pipeline, timings: Timings) -> None:
        self.source, self.translator, self.pipeline, self.timings = source, translator, pipeline, timings
        self.link: str | None = None  # to the page
        self.warm_up = 0.0  # s

    def about(self, folder: Path) -> dict[str, str]:
        """What a page says of the run."""
        height, width = self.source.size
        return {"model": folder.name, "source": f"{self.source.name}, {width}x{height}"}

    def run(self, *, frames: int | None = None, seconds: float | None = None) -> Iterator[FrameTiming]:
        """As `Pipeline.run`, with every timing added to `timings`."""
        for timing in self.pipeline.run(self.translator, frames=frames, seconds=seconds):
            self.timings.add(timing)
            yield timing


@contextlib.contextmanager
def open_live(
    config: LiveConfig, folder: Path, load: Callable[[Path], Translator], *, notify: Notify
) -> Iterator[Live]:
    """Open source, model and sinks; `load` opens the bundle `folder`, or one beside it when a person switches.

    Raises SourceError, SinkError, and what `load` raises.
    """
    check_sinks(config)
    stopping = threading.Event()
    with contextlib.ExitStack() as stack:
        source, trouble = _open_source(config, stopping, notify)
        timings = Timings()
        view = LiveView(config.layout, numbers=timings.recent if config.overlay else None)
        pipeline = Pipeline(source, view=view, every=not source.live, stopping=stopping, notify=notify, trouble=trouble)
        stack.callback(pipeline.close)
        pipeline.stabilizer.smooth, pipeline.skipper.enabled = config.smooth, config.skip
        if source.live:
            pipeline.drain()
        translator = load(folder)
        live = Live(source, translator, pipeline, timings)
        if source.live:
            _add_live_sinks(stack, config, live, view, folder, load, notify)
        elif config.out is not None:
            size = (source.size[0], source.size[1] * (2 if config.layout == "side-by-side" else 1))
            pipeline.add(stack.enter_context(open_video(config.out, size=size, fps=source.fps)))
        live.warm_up = warm_up(translator, source.size)
        yield live


def _open_source(
    config: LiveConfig, stopping: threading.Event, notify: Notify
) -> tuple[Source, Callable[[], str | None]]:
    """The source as the pipeline reads it, and what says why no frames come."""
    if config.source == BROWSER:
        if config.page is None:
            raise SourceError("The source browser is a camera of whoever opens the page; add --web.")
        browser = BrowserSource(config.camera_size or BrowserSource.SIZE, stopping=stopping)
        return browser, browser.trouble

    def opened() -> Source:
        return sources.open_source(config.source, size=config.camera_size, fps=config.camera_fps)

    source = opened()
    if source.live:
        reconnecting = Reconnecting(source, opened, stopping=stopping, notify=notify)
        return reconnecting, reconnecting.trouble
    if config.loop and source.length is not None:
        source.close()
        source = Looped(opened)
    if config.watched or (config.source == "synthetic" and config.out is None):
        source = Paced(source)
    return source, lambda: None


def _add_live_sinks(
    stack: contextlib.ExitStack,
    config: LiveConfig,
    live: Live,
    view: LiveView,
    folder: Path,
    load: Callable[[Path], Translator],
    notify: Notify,
) -> None:
    """Every sink that was asked for; the first of them is the one whose timings count."""
    source, pipeline = live.source, live.pipeline
    out = config.out or Path(RECORDING)
    recorder = Recorder(out, fps=source.fps, segment=config.segment, on=config.out is not None, notify=notify)
    session = Session(
        pipeline,
        view,
        recorder,
        size=source.size,
        models=_models_beside(folder),
        model=folder.name,
        translator=live.translator,
        load=load,
        notify=notify,
        folder=out.parent,
    )
    shown = (source.size[0], source.size[1] * (2 if config.layout == "side-by-side" else 1))
    if config.window:
        keys: dict[str, Callable[[], object]] = {
            "s": session.snapshot,
            "r": lambda: session.set("recording", not recorder.on),
            " ": lambda: session.set("frozen", not pipeline.frozen),
            "v": session.toggle_split,
        }
        keys = {key: _noticing(action, notify) for key, action in keys.items()}
        pipeline.add_window(stack.enter_context(open_window(f"cyclegan-edge: {folder.name}", shown, keys)))
    if config.page is not None:
        from cyclegan_edge.web.server import open_page

        page = open_page(
            config.page.host,
            config.page.port,
            about=live.about(folder),
            stats=live.timings.recent,
            controls=session,
            camera=source if isinstance(source, BrowserSource) else None,
            certificate=config.page.certificate,
        )
        pipeline.add(opened := stack.enter_context(page))
        live.link = opened.link
    if config.virtual_camera is not None:
        device = None if config.virtual_camera == "auto" else config.virtual_camera
        camera = stack.enter_context(open_virtual_camera(device, size=shown, fps=source.fps))
        notify(f"Other programs see it as the camera {camera.device}.")
        pipeline.add(camera)
    if config.out is not None or config.window or config.page is not None:
        pipeline.add(stack.enter_context(open_recording(recorder)))


def _noticing(action: Callable[[], object], notify: Notify) -> Callable[[], None]:
    """`action`, which when it fails is said and costs nothing else."""

    def attempt() -> None:
        try:
            action()
        except CycleGanEdgeError as error:
            notify(str(error))

    return attempt


def _models_beside(folder: Path) -> dict[str, Path]:
    """The bundles in the same folder, by name: what a person can switch to."""
    return {path.parent.name: path.parent for path in sorted(folder.resolve().parent.glob(f"*/{MANIFEST}"))}
