"""`cyclegan-edge train`: a folder of pictures in, a run with checkpoints out."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch

    from cyclegan_edge.train.config import TrainConfig
    from cyclegan_edge.train.data.folders import PictureFolders
    from cyclegan_edge.train.data.pairs import Pairs
    from cyclegan_edge.train.distributed import ProcessGroup
    from cyclegan_edge.train.loop import Progress

RUNS = Path("runs")

_FIXED = ("size", "seed", "start", "start_gain", "generator.", "discriminator.", "pictures.colour")


def train(
    data: Annotated[
        str | None,
        typer.Argument(help="Folder that holds trainA/ and trainB/, or WebDataset shards.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run is written to runs/NAME.", show_default="the data folder's name")
    ] = None,
    preset: Annotated[
        Literal["paper", "short-side"] | None,
        typer.Option(help="Published variant to start from.", show_default="paper"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option(help="Stop after this many steps, instead of 200 epochs.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop after this many epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this much time; the schedule fits it.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training crops in pixels.", show_default="256")] = None,
    batch: Annotated[int | None, typer.Option(help="Pairs per step, of all processes.", show_default="1")] = None,
    precision: Annotated[
        Literal["auto", "fp32", "tf32", "bf16", "fp16"] | None,
        typer.Option(help="Of the convolutions.", show_default="auto"),
    ] = None,
    cache: Annotated[
        Literal["ram", "disk", "none"] | None,
        typer.Option(help="Where decoded pictures are kept between epochs.", show_default="ram"),
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations, of which the best checkpoint is kept.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, for instance generator.width=32."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs/NAME, or the newest run, where it stopped.")
    ] = False,
) -> None:
    """Train a CycleGAN on DATA and leave checkpoints, samples and TensorBoard curves in runs/NAME.

    Ctrl-C finishes the step, saves, and stops; --resume goes on from there. Settings may be changed on the way, save
    those that the networks and the order of the pictures depend on. Started by torchrun, its processes train as one.
    """
    from cyclegan_edge.train.distributed import join_process_group, leave_process_group

    given = {
        "schedule.steps": steps,
        "schedule.epochs": epochs,
        "schedule.minutes": minutes,
        "size": size,
        "batch": batch,
        "speed.precision": precision,
        "pictures.cache": cache,
        "output.evaluate_every": evaluate_every,
    }
    known: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if sum(rule is not None for rule in (steps, epochs, minutes)) > 1:
        raise ConfigError("A run ends by one rule: give one of --steps, --epochs and --minutes.")
    if data is not None:
        known["data"] = str(Path(data).resolve()) if Path(data).exists() else data
    checkpoint: Path | None = None
    if resume:
        if preset:
            raise ConfigError("A run keeps its preset; leave out --preset, or change single settings with --set.")
        run, settings, checkpoint = _find_run(name, config, set_ or [], known)
    else:
        run, settings = _start(name, preset, config, set_ or [], known)
    group = join_process_group(settings.device)
    try:
        console.quiet = not group.is_main
        run = group.broadcast(run if checkpoint else _unused(run))
        train_in(run, settings, checkpoint, group)
    finally:
        leave_process_group()
    console.print(f"\nNext: [bold]cyclegan-edge export --fp16[/bold]   (curves: tensorboard --logdir {run.parent})")


def train_in(
    run: Path, settings: "TrainConfig", checkpoint: Path | None = None, group: "ProcessGroup | None" = None
) -> dict[str, float]:
    """Train in the folder `run` with a progress bar; the last losses come back."""
    from cyclegan_edge.train.loop import choose_device, choose_execution, fit

    device, speed = choose_device(settings), choose_execution(settings, group)
    many = f"{group.world_size} processes on " if group and group.world_size > 1 else ""
    console.print(
        f"Training in [bold]{run}[/bold] on {many}{_describe(device)}: {settings.size} px, "
        f"{settings.generator.kind} of width {settings.generator.width}; {speed}."
    )
    pairs = _pairs(settings)
    losses: dict[str, float] = {}
    with _asked_to_stop() as stop, progress_bar() as bar:
        task = bar.add_task("training", note="", total=None)
        for progress in fit(settings, pairs, run, resume=checkpoint, stop=lambda: bool(stop), group=group):
            losses = progress.losses or losses
            for warning in progress.warnings:
                _warn(warning)
            total = progress.total or max(progress.step, round(progress.step / max(progress.share, 1e-6)))
            bar.update(task, completed=progress.step, total=total, note=_note(progress, losses))
            last = progress
    if not losses:
        console.print(
            "The run has reached its end already; to train on, give it a later one: --steps, --epochs or --minutes."
        )
    elif last.share < 1.0:
        console.print(
            f"Stopped after step {last.step}{f' of {last.total}' if last.total else ''}; "
            f"go on with [bold]cyclegan-edge train --resume --name {run.name}[/bold]."
        )
    return losses


def _start(
    name: str | None, preset: str | None, config: Path | None, overrides: list[str], known: dict[str, object]
) -> "tuple[Path, TrainConfig]":
    from cyclegan_edge.settings import load_settings
    from cyclegan_edge.train.config import PRESETS, TrainConfig

    if "data" not in known and config is None:
        raise ConfigError(
            "No data: name the folder that holds trainA/ and trainB/, as in `cyclegan-edge train horse2zebra`."
        )
    base = next((values for key, values in PRESETS.items() if key == preset), {})
    settings = load_settings(TrainConfig, config, overrides, base=base, overrides=known)
    return RUNS / (name or Path(settings.data).resolve().name.partition(".")[0] or "shards"), settings


def _find_run(
    name: str | None, config: Path | None, overrides: list[str], known: dict[str, object]
) -> "tuple[Path, TrainConfig, Path]":
    from cyclegan_edge.files import newest
    from cyclegan_edge.schema import to_mapping
    from cyclegan_edge.settings import changed, load_settings
    from cyclegan_edge.train.checkpoint import find_checkpoint, load_config
    from cyclegan_edge.train.config import TrainConfig

    run = RUNS / name if name else newest(RUNS, "checkpoints")
    if run is None:
        raise CheckpointError(f"There is no run in {RUNS} to continue; start one with `cyclegan-edge train DATA`.")
    checkpoint = find_checkpoint(run)
    if checkpoint is None:
        raise CheckpointError(f"{run} has no checkpoint to continue from; start again with `cyclegan-edge train DATA`.")
    console.print(f"Continuing from [bold]{checkpoint}[/bold].")
    before = load_config(checkpoint)
    rules = {"schedule.epochs": None, "schedule.steps": None, "schedule.minutes": None}
    if rules.keys() & known.keys():  # another rule takes the place of the old one
        known = {**rules, **known}
    settings = load_settings(TrainConfig, config, overrides, base=to_mapping(before), overrides=known)
    different = changed(before, settings)
    if fixed := [key for key in different if key in _FIXED or key.startswith(tuple(k for k in _FIXED if "." in k))]:
        raise ConfigError(
            f"{fixed[0]} cannot change on the way: the networks or the order of the pictures depend on it; "
            f"start a new run, or leave it as it is."
        )
    if different:
        console.print(f"Changed: {', '.join(different)}.")
    return run, settings, checkpoint


def _pairs(settings: "TrainConfig") -> "Pairs":
    from cyclegan_edge.train.data.cache import PictureCache
    from cyclegan_edge.train.data.folders import FolderPairs, find_pictures
    from cyclegan_edge.train.data.shard_index import is_shards

    if is_shards(settings.data):
        from cyclegan_edge.train.data.shards import ShardPairs  # webdataset: only when needed

        shards = ShardPairs.open(settings.data, seed=settings.seed, warn=_warn)
        a, b = shards.counts.values()
        console.print(f"{a} pictures of A, {b} of B in shards, {len(shards)} pairs an epoch.")
        return shards
    cache = PictureCache(settings.pictures.cache, limit_mib=settings.pictures.cache_mib)
    with progress_bar() as bar:
        task = bar.add_task("reading", note="", total=None)
        folders = find_pictures(
            Path(settings.data),
            workers=settings.pictures.workers,
            read=cache.read,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _name_skipped(folders)
    console.print(f"{len(folders.a)} pictures of A, {len(folders.b)} of B, {len(folders)} pairs an epoch.")
    return FolderPairs(folders, settings.seed, cache.read)


def _unused(wanted: Path) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where there is one already, so that nothing is overwritten."""
    run, number = wanted, 1
    while run.exists():
        number += 1
        run = wanted.with_name(f"{wanted.name}-{number}")
    if number > 1:
        console.print(f"{wanted} is there already (add --resume to continue it), so this is {run}.")
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


def _warn(sentence: str) -> None:
    console.print(f"[yellow]warning:[/yellow] {escape(sentence)}")


def _name_skipped(folders: "PictureFolders") -> None:
    if not folders.skipped:
        return
    _warn(f"{len(folders.skipped)} files were left out:")
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
