"""`cyclegan-edge translate`: pictures, folders of pictures and videos in, their translations of the same size out."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from cyclegan_edge.backends import EngineName
from cyclegan_edge.bundle import Precision
from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.errors import DataError, EngineError, ImageError, SourceError
from cyclegan_edge.geometry import Fit

if TYPE_CHECKING:
    from cyclegan_edge.translator import Translator

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
) -> None:
    """Translate INPUT... with MODEL. Each result has the size of its input, and its name in the folder --out."""
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.sources import quiet_opencv

    jobs = list(plan(inputs, out))
    translator = Translator.load(model, engine=engine, precision=precision, fit=fit, size=size)
    for reason in translator.passed_over:
        console.print(reason, markup=False)
    console.print(f"Translating with [bold]{translator.name}[/bold] on {translator.device}.")
    skipped = 0
    with quiet_opencv(), progress_bar() as bar:
        task = bar.add_task("files", total=len(jobs), note="")
        for source, target in jobs:
            try:
                if source.suffix.lower() in VIDEO_SUFFIXES:
                    translate_video(translator, source, target, bar)
                else:
                    translate_picture(translator, source, target)
            except (EngineError, ImageError, SourceError) as error:
                skipped += 1
                _warn(f"skipped, {error}" if source.name in str(error) else f"skipped {source}, {error}")
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


def translate_picture(translator: "Translator", source: Path, target: Path) -> None:
    """Translate one picture file."""
    from cyclegan_edge.images import read_image, write_image

    write_image(target, translator(read_image(source)))


def translate_video(translator: "Translator", source: Path, target: Path, bar: Progress) -> None:
    """Translate one video file frame by frame, at the same rate."""
    from cyclegan_edge.video.loop import translate_frames
    from cyclegan_edge.video.sinks import open_video
    from cyclegan_edge.video.sources import open_source

    with contextlib.ExitStack() as opened:
        video = opened.enter_context(contextlib.closing(open_source(str(source.resolve()))))
        sink = opened.enter_context(open_video(target, size=video.size, fps=video.fps, live=False))
        task = bar.add_task(escape(source.name), total=video.length, note="")
        frames = 0
        for frames, _ in enumerate(translate_frames(video, translator, sink), start=1):  # noqa: B007
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


def _warn(sentence: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {escape(sentence)}")
