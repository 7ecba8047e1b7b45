"""`cyclegan-edge translate`: pictures, folders of pictures and videos in, their translations of the same size out."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.progress import Progress

from cyclegan_edge.cli.console import console, progress_bar, warn
from cyclegan_edge.cli.engine import offer_rebuild
from cyclegan_edge.cli.options import EngineOption, FitOption, PrecisionOption, SizeOption, Yes
from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import CycleGanEdgeError, DataError, EngineError, ImageError, SinkError, SourceError

if TYPE_CHECKING:
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.frames import Frame
    from cyclegan_edge.worklist import Job

Outcome = Literal["translated", "done before"] | CycleGanEdgeError


def translate(
    model: Annotated[Path, typer.Argument(help="Folder of an exported model.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Pictures, videos, and folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("translated"),
    engine: EngineOption = "auto",
    precision: PrecisionOption = None,
    fit: FitOption = "aspect",
    size: SizeOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also the folders inside folders; --out gets the same tree.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="The I-th of N shares: one per machine.", show_default=False)
    ] = None,
    format: Annotated[  # noqa: A002  # the option's name
        Literal["png", "jpg", "webp"] | None,
        typer.Option(help="Of the pictures; without it, that of each input.", show_default=False),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Of JPEG, 95 without it, and WebP, lossless without it.", show_default=False),
    ] = None,
    yes: Yes = False,
) -> None:
    """Translate INPUT... with MODEL. Each result has the size of its input, and its name in the folder --out.

    What is done already is not done again; run the same command as often, and on as many machines, as you like. Give
    every model a folder of its own: results do not say which model made them. The exit code is 1 when a file failed.
    """
    from cyclegan_edge.files import check_writable
    from cyclegan_edge.images import name_kinds
    from cyclegan_edge.translator import Translator
    from cyclegan_edge.video.captures import quiet_opencv
    from cyclegan_edge.video.streams import has_av
    from cyclegan_edge.worklist import VIDEO_SUFFIXES, parse_share, plan

    skipped: list[str] = []
    suffix = f".{format}" if format else None
    share = parse_share(shard)
    check_writable(out / "result")
    jobs = list(plan(inputs, out, recursive=recursive, share=share, suffix=suffix, on_skip=skipped.append))
    if skipped:
        warn(f"{len(skipped)} files are no pictures or videos that are read: {name_kinds(skipped)}.")
    offer_rebuild(model, engine=engine, precision=precision, yes=yes)
    translator = Translator.load(model, engine=engine, precision=precision, fit=fit, size=size)
    for remark in translator.remarks:
        console.print(remark, markup=False)
    console.print(f"Translating with [bold]{escape(translator.name)}[/bold] on {escape(translator.device)}.")
    videos = [job for job in jobs if job.source.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [job for job in jobs if job.source.suffix.lower() not in VIDEO_SUFFIXES]
    if videos and not has_av():
        warn(
            "Without PyAV videos lose their sound, the times of their pictures and their pixel aspect, and play in no "
            "browser; add it with `pip install 'cyclegan-edge[video]'`."
        )
    translated = failed = 0
    with quiet_opencv(), progress_bar() as bar:
        task = bar.add_task("files", total=len(jobs), note="")
        for job, outcome in chain(
            translate_pictures(translator, pictures, quality), translate_videos(translator, videos, bar)
        ):
            translated += outcome == "translated"
            if isinstance(outcome, CycleGanEdgeError):
                failed += 1
                warn(f"failed, {outcome}" if job.source.name in str(outcome) else f"failed {job.file}, {outcome}")
            bar.update(task, advance=1)
    if jobs and failed == len(jobs):
        raise DataError(f"None of the {len(jobs)} files could be translated; the reasons are above.")
    console.print(
        f"{translated} of {len(jobs)} files translated, {len(jobs) - translated - failed} were done before, "
        f"{failed} failed; see [bold]{escape(str(out))}[/bold]."
    )
    if failed:
        raise typer.Exit(1)


def translate_pictures(
    translator: "Translator", jobs: Iterable["Job"], quality: int | None
) -> Iterator[tuple["Job", Outcome]]:
    """Translate picture files, several at once where the engine can; one that fails costs no other."""
    from cyclegan_edge.images import read_image

    begun: deque[tuple[Job, int]] = deque()  # read and with the engine, and the version that was read
    settled: deque[tuple[Job, Outcome]] = deque()

    def read() -> Iterator[Picture]:
        for job in jobs:
            try:
                if job.is_done():
                    settled.append((job, "done before"))
                    continue
                version, image = job.version(), read_image(job.source)
            except (ImageError, SourceError) as error:
                settled.append((job, error))
            else:
                begun.append((job, version))
                yield image

    images, more = read(), True
    while more:
        try:
            for translated in translator.many(images):
                job, version = begun.popleft()
                yield job, _attempt(partial(_write_picture, job, version, translated, quality))
                while settled:
                    yield settled.popleft()
            more = False
        except (EngineError, ImageError) as error:  # of the first; what was with the engine too is lost with it
            settled.append((begun.popleft()[0], error))
            settled.extend(
                (job, _attempt_file(job, partial(translate_picture, translator, quality=quality))) for job, _ in begun
            )
            begun.clear()
        while settled:
            yield settled.popleft()


def translate_videos(translator: "Translator", jobs: Iterable["Job"], bar: Progress) -> Iterator[tuple["Job", Outcome]]:
    """Translate video files, one after the other."""
    for job in jobs:
        yield job, _attempt_file(job, partial(translate_video, translator, bar=bar))


def translate_video(translator: "Translator", source: Path, target: Path, *, bar: Progress) -> None:
    """Translate one video file, with its times and its sound, several frames at once where the engine can."""
    from cyclegan_edge.video.clip import AvClip
    from cyclegan_edge.video.frames import Rendered
    from cyclegan_edge.video.recorder import open_video
    from cyclegan_edge.video.sources import open_source
    from cyclegan_edge.video.streams import has_av

    with contextlib.ExitStack() as opened:
        clip = opened.enter_context(contextlib.closing(AvClip(source))) if has_av() else None
        video = clip or opened.enter_context(contextlib.closing(open_source(str(source.resolve()))))
        sink = opened.enter_context(open_video(target, size=video.size, fps=video.fps, clip=clip))
        task = bar.add_task(source.name, total=video.length, note="")
        frames = 0
        begun: deque[Frame] = deque()

        def images() -> Iterator[Picture]:
            while frame := video.read():
                begun.append(frame)
                yield frame.image

        for translated in translator.many(images(), bgr=True):
            frames += 1
            sink.show(Rendered(begun.popleft(), translated, translated))
            bar.update(task, advance=1)
    if video.length and frames < video.length:
        warn(f"{source} ends after {frames} of its {video.length} frames; the rest is damaged or missing.")


def translate_picture(translator: "Translator", source: Path, target: Path, *, quality: int | None) -> None:
    """Translate one picture file."""
    from cyclegan_edge.images import read_image, write_image

    write_image(target, translator(read_image(source)), quality=quality)


def _write_picture(job: "Job", version: int, translated: Picture, quality: int | None) -> None:
    from cyclegan_edge.images import write_image

    write_image(job.target, translated, quality=quality)
    job.mark_done(version)


def _attempt_file(job: "Job", work: Callable[[Path, Path], None]) -> Outcome:
    """Do `work`, from source to target, unless that was done before."""

    def whole() -> None:
        version = job.version()
        work(job.source, job.target)
        job.mark_done(version)

    return "done before" if job.is_done() else _attempt(whole)


def _attempt(work: Callable[[], None]) -> Outcome:
    """Do `work`. What it raises concerns its file alone, unless the disk takes no file at all: that is raised again."""
    from cyclegan_edge.files import refuses_all

    try:
        work()
    except SinkError as error:
        if refuses_all(error):
            raise
        return error
    except (EngineError, ImageError, SourceError) as error:
        return error
    return "translated"
