"""`cyclegan-edge translate`: pictures, folders of pictures and videos in, their translations of the same size out."""

import contextlib
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
    from cyclegan_edge.worklist import Made


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
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also the folders inside folders; --out gets the same tree.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only the I-th of N equal shares, by name: one per machine.", show_default=False
        ),
    ] = None,
) -> None:
    """Translate INPUT... with MODEL. Each result has the size of its input, and its name in the folder --out.

    What is done already is not done again; run the same command as often, and on as many machines, as you like.
    """
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.sources import quiet_opencv
    from cyclegan_edge.worklist import VIDEO_SUFFIXES, claim, parse_share, plan

    jobs = list(plan(inputs, out, recursive=recursive, share=parse_share(shard)))
    translator = Translator.load(model, engine=engine, precision=precision, fit=fit, size=size)
    for reason in translator.passed_over:
        console.print(reason, markup=False)
    console.print(f"Translating with [bold]{translator.name}[/bold] on {translator.device}.")
    claim(out, _made(translator, precision))
    translated = failed = 0
    with quiet_opencv(), progress_bar() as bar:
        task = bar.add_task("files", total=len(jobs), note="")
        for job in jobs:
            try:
                if not job.is_done():
                    version = job.version()
                    if job.source.suffix.lower() in VIDEO_SUFFIXES:
                        translate_video(translator, job.source, job.target, bar)
                    else:
                        translate_picture(translator, job.source, job.target)
                    job.mark_done(version)
                    translated += 1
            except (EngineError, ImageError, SourceError) as error:
                failed += 1
                _warn(f"failed, {error}" if job.source.name in str(error) else f"failed {job.file}, {error}")
            bar.advance(task)
    if jobs and failed == len(jobs):
        raise DataError(f"None of the {len(jobs)} files could be translated; the reasons are above.")
    console.print(
        f"{translated} of {len(jobs)} files translated, {len(jobs) - translated - failed} were done before, "
        f"{failed} failed; see [bold]{out}[/bold]."
    )


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


def _made(translator: "Translator", precision: Precision | None) -> "Made":
    from cyclegan_edge.worklist import Made

    assert translator.bundle is not None  # it was loaded from one
    manifest = translator.bundle.manifest
    return Made(
        model=manifest.name,
        weights=manifest.source.sha256,
        direction=manifest.direction,
        precision=precision or "auto",
        fit=translator.fit,
        size=None if translator.fit == "native" else translator.size,
    )


def _warn(sentence: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {escape(sentence)}")
