"""`cyclegan-edge train`: a folder of pictures in, a run with checkpoints out."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch

    from cyclegan_edge.train.config import TrainConfig
    from cyclegan_edge.train.data import PictureFolders
    from cyclegan_edge.train.loop import Progress

RUNS = Path("runs")


def train(
    data: Annotated[
        Path | None, typer.Argument(help="Folder that holds trainA/ and trainB/.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run is written to runs/NAME.", show_default="the data folder's name")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option(help="Stop after this many steps, instead of 200 epochs.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training crops in pixels.", show_default="256")] = None,
    cache: Annotated[
        Literal["ram", "disk", "none"] | None,
        typer.Option(help="Where decoded pictures are kept between epochs.", show_default="ram"),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, for instance width=32.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs/NAME, or the newest run, where it stopped.")
    ] = False,
) -> None:
    """Train a CycleGAN on DATA and leave checkpoints, samples and TensorBoard curves in runs/NAME.

    Ctrl-C finishes the step, saves, and stops; --resume goes on from there.
    """
    from cyclegan_edge.settings import load_settings
    from cyclegan_edge.train.config import TrainConfig

    if resume:
        if config or size or steps or cache or set_:
            raise ConfigError(
                "A run continues with the settings it was started with; leave out --config and all that set one."
            )
        run, settings, checkpoint = _find_run(name, data)
    else:
        given = {"data": data and data.resolve(), "steps": steps, "size": size, "cache": cache}
        known = {key: value for key, value in given.items() if value is not None}
        if data is None and config is None:
            raise ConfigError(
                "No data: name the folder that holds trainA/ and trainB/, as in `cyclegan-edge train horse2zebra`."
            )
        settings = load_settings(TrainConfig, config, set_ or [], **known)
        run, checkpoint = _new_run(name or settings.data.resolve().name), None
    train_in(run, settings, checkpoint)
    console.print(f"\nNext: [bold]cyclegan-edge export --fp16[/bold]   (curves: tensorboard --logdir {run.parent})")


def train_in(run: Path, settings: "TrainConfig", checkpoint: Path | None = None) -> dict[str, float]:
    """Train in the folder `run` with a progress bar; the last losses come back."""
    from cyclegan_edge.train.cache import PictureCache
    from cyclegan_edge.train.data import find_pictures
    from cyclegan_edge.train.loop import choose_device, fit

    device = choose_device(settings)
    cache = PictureCache(settings.cache, limit_mib=settings.cache_mib)
    console.print(
        f"Training in [bold]{run}[/bold] on {_describe(device)}: "
        f"{settings.size} px, width {settings.width}, {settings.blocks} blocks."
    )
    with progress_bar() as bar:
        task = bar.add_task("reading", note="", total=None)
        folders = find_pictures(
            settings.data,
            workers=settings.workers,
            read=cache.read,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _warn(folders)
    console.print(f"{len(folders.a)} pictures of A, {len(folders.b)} of B, {len(folders)} pairs an epoch.")
    losses: dict[str, float] = {}
    with _asked_to_stop() as stop, progress_bar() as bar:
        task = bar.add_task("training", note="", total=None)
        for progress in fit(settings, folders, run, read=cache.read, resume=checkpoint, stop=lambda: bool(stop)):
            losses = progress.losses or losses
            bar.update(task, completed=progress.step, total=progress.total, note=_note(progress, losses))
            last = progress
    if not losses:
        console.print("The run has all its steps already; there was nothing left to train.")
    elif last.step < last.total:
        console.print(
            f"Stopped after step {last.step} of {last.total}; "
            f"go on with [bold]cyclegan-edge train --resume --name {run.name}[/bold]."
        )
    return losses


def _find_run(name: str | None, data: Path | None) -> "tuple[Path, TrainConfig, Path]":
    from dataclasses import replace

    from cyclegan_edge.files import newest
    from cyclegan_edge.train.checkpoint import find_checkpoint, load_config

    run = RUNS / name if name else newest(RUNS, "checkpoints")
    if run is None:
        raise CheckpointError(f"There is no run in {RUNS} to continue; start one with `cyclegan-edge train DATA`.")
    checkpoint = find_checkpoint(run)
    if checkpoint is None:
        raise CheckpointError(f"{run} has no checkpoint to continue from; start again with `cyclegan-edge train DATA`.")
    console.print(f"Continuing from [bold]{checkpoint}[/bold].")
    settings = load_config(checkpoint)
    return run, replace(settings, data=data.resolve()) if data else settings, checkpoint


def _new_run(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where there is one already, so that nothing is overwritten."""
    run, number = RUNS / name, 1
    while run.exists():
        number += 1
        run = RUNS / f"{name}-{number}"
    if number > 1:
        console.print(f"{RUNS / name} is there already (add --resume to continue it), so this is {run}.")
    return run


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that is no longer empty once Ctrl-C or SIGTERM came; a second one stops at once."""
    asked: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        for other, handler in previous.items():
            signal.signal(other, handler)
        console.print("Finishing this step and saving; once more stops without saving.")

    for number in previous:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _warn(folders: "PictureFolders") -> None:
    if not folders.skipped:
        return
    console.print(f"[yellow]warning:[/yellow] {len(folders.skipped)} files were left out:", style="yellow")
    for _, problem in folders.skipped[:10]:
        console.print(f"  {problem}", markup=False)
    if len(folders.skipped) > 10:
        console.print(f"  and {len(folders.skipped) - 10} more.")


def _note(progress: "Progress", losses: dict[str, float]) -> str:
    cycle = losses.get("cycle_a", 0.0) + losses.get("cycle_b", 0.0)
    return f"{progress.pairs_per_second:.2f} pairs/s  cycle {cycle / 2:.3f}" if losses else ""


def _describe(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name() if device.type == "cuda" else f"the CPU, {torch.get_num_threads()} threads"
