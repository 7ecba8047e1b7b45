"""`cyclegan-edge translate`: pictures, folders of pictures and videos in, their translations of the same size out."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.markup import escape
from rich.progress import Progress

from cyclegan_edge.backends import EngineName
from cyclegan_edge.bundle import Precision
from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.cli.engine import offer_rebuild
from cyclegan_edge.errors import CycleGanEdgeError, DataError, EngineError, ImageError, SourceError
from cyclegan_edge.geometry import Fit

if TYPE_CHECKING:
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.frames import Frame

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


def translate(
    model: Annotated[Path, typer.Argument(help="Folder of an exported model.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures, videos, and folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("translated"),
    engine: Annotated[EngineName, typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision | None, typer.Option(help="Without it, fp16 on a GPU and fp32 on the CPU.")] = None,
    fit: Annotated[
        Fit,
        typer.Option(help="aspect: short side at --size; stretch: both sides; native: the input's own size, slowest."),
    ] = "aspect",
    size: Annotated[int | None, typer.Option(help="Pixels; without it, what the model was trained on.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Rebuild an engine of another machine without asking.")] = False,
    trust_engine: Annotated[
        bool, typer.Option("--trust-engine", help="Run the code in a version-compatible one.")
    ] = False,
) -> None:
    """Translate INPUT... with MODEL. Each result has the size of its input, and its name in the folder --out."""
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.sources import quiet_opencv

    jobs = list(plan(inputs, out))
    offer_rebuild(model, engine=engine, precision=precision, yes=yes)
    translator = Translator.load(
        model, engine=engine, precision=precision, fit=fit, size=size, trust_engine=trust_engine
    )
    for reason in translator.passed_over:
        console.print(reason, markup=False)
    console.print(f"Translating with [bold]{translator.name}[/bold] on {translator.device}.")
    pictures = [job for job in jobs if not _is_video(job[0])]
    videos = [job for job in jobs if _is_video(job[0])]
    skipped = 0
    with quiet_opencv(), progress_bar() as bar:
        task = bar.add_task("files", total=len(jobs), note="")
        for source, error in translate_pictures(translator, pictures):
            skipped += _skipped(source, error)
            bar.advance(task)
        for source, target in videos:
            try:
                translate_video(translator, source, target, bar)
            except (EngineError, ImageError, SourceError) as error:
                skipped += _skipped(source, error)
            bar.advance(task)
    if skipped == len(jobs):
        raise DataError(f"None of the {len(jobs)} files could be translated; the reasons are above.")
    console.print(f"{len(jobs) - skipped} of {len(jobs)} files translated, {skipped} skipped; see [bold]{out}[/bold].")


def plan(inputs: list[Path], out: Path) -> Iterator[tuple[Path, Path]]:
    """Each file to translate once, and where its result goes: no result overwrites an input or another result.

    Raises DataError for an input that is not there or a folder with nothing to translate.
    """
    from cyclegan_edge.images import SUFFIXES

    files = {file.resolve(): file for given in inputs for file in _files(given)}
    taken = set(files)
    for file in files.values():
        known = file.suffix if file.suffix.lower() in SUFFIXES else ".png"
        suffix = ".mp4" if file.suffix.lower() in VIDEO_SUFFIXES else known
        target, number = out / f"{file.stem}{suffix}", 1
        while target.resolve() in taken:
            number += 1
            target = out / f"{file.stem}-{number}{suffix}"
        taken.add(target.resolve())
        yield file, target


def translate_pictures(
    translator: "Translator", jobs: Sequence[tuple[Path, Path]]
) -> Iterator[tuple[Path, CycleGanEdgeError | None]]:
    """Translate picture files, several at once where the engine can; yields each with why it was skipped, or None."""
    from cyclegan_edge.images import read_image, write_image

    begun: deque[tuple[Path, Path]] = deque()  # read and handed to the engine
    failed: deque[tuple[Path, CycleGanEdgeError]] = deque()

    def read() -> Iterator[npt.NDArray[np.uint8]]:
        for source, target in jobs:
            try:
                image = read_image(source)
            except ImageError as error:
                failed.append((source, error))
            else:
                begun.append((source, target))
                yield image

    images, more = read(), True
    while more:
        try:
            for translated in translator.many(images):
                source, target = begun.popleft()
                write_image(target, translated)
                yield source, None
                while failed:
                    yield failed.popleft()
            more = False
        except (EngineError, ImageError) as error:  # of the picture begun first, and lost for those begun with it
            failed.extend((source, error) for source, _ in begun)
            begun.clear()
        while failed:
            yield failed.popleft()


def translate_video(translator: "Translator", source: Path, target: Path, bar: Progress) -> None:
    """Translate one video file, at the same rate, several frames at once where the engine can."""
    from cyclegan_edge.video.sinks import open_video
    from cyclegan_edge.video.sources import open_source

    with contextlib.ExitStack() as opened:
        video = opened.enter_context(contextlib.closing(open_source(str(source.resolve()))))
        sink = opened.enter_context(open_video(target, size=video.size, fps=video.fps, live=False))
        task = bar.add_task(escape(source.name), total=video.length, note="")
        frames = 0
        begun: deque[Frame] = deque()

        def images() -> Iterator[npt.NDArray[np.uint8]]:
            while frame := video.read():
                begun.append(frame)
                yield frame.image

        for translated in translator.many(images()):
            frames += 1
            sink.show(translated, begun.popleft())
            bar.advance(task)
    if video.length and frames < video.length:
        _warn(f"{source} ends after {frames} of its {video.length} frames; the rest is damaged or missing.")


def _files(given: Path) -> list[Path]:
    from cyclegan_edge.images import SUFFIXES

    if not given.is_dir():
        if not given.exists():
            raise DataError(f"{given} is not there; name pictures, videos or folders of them.")
        return [given]
    wanted = SUFFIXES | VIDEO_SUFFIXES
    found = [
        path for path in sorted(given.iterdir()) if path.suffix.lower() in wanted and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(f"{given} holds no picture and no video; name a folder that does.")
    return found


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _skipped(source: Path, error: CycleGanEdgeError | None) -> bool:
    """Whether it was, once that is said."""
    if error:
        _warn(f"skipped, {error}" if source.name in str(error) else f"skipped {source}, {error}")
    return error is not None


def _warn(sentence: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {escape(sentence)}")
