"""`cyclegan-edge train`: a folder of pictures in, a run with checkpoints out."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, warn
from cyclegan_edge.cli.options import DomainsOption
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import ConfigError


def train(
    data: Annotated[
        str | None,
        typer.Argument(help="Folder that holds trainA/ and trainB/, or WebDataset shards.", show_default=False),
    ] = None,
    domains: DomainsOption = None,
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
    evaluate_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations, of which the best checkpoint is kept.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, for instance generator.width=32."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from this run, checkpoint, file of weights or exported model.",
            show_default=False,
        ),
    ] = None,
    direction: Annotated[
        Direction | None,
        typer.Option(
            help="Of the one generator in MODEL, where that is not a run.", show_default="what its file says, or ab"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue runs/NAME, or the newest run, where it stopped.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Continue the run of this checkpoint from there.", show_default="the last"),
    ] = None,
) -> None:
    """Train a CycleGAN on DATA and leave checkpoints, samples and TensorBoard curves in runs/NAME.

    Ctrl-C finishes the step, saves, and stops; --resume goes on from there. Settings may be changed on the way, save
    those that the networks and the order of the pictures depend on. Started by torchrun, its processes train as one.
    """
    from cyclegan_edge.cli.training import open_model, show_training
    from cyclegan_edge.train.distributed import join_process_group, leave_process_group
    from cyclegan_edge.train.runs import hold, new_run, resume_run

    options = {
        "data": str(Path(data).resolve()) if data is not None and Path(data).exists() else data,
        "domains": domains,
        "schedule.steps": steps,
        "schedule.epochs": epochs,
        "schedule.minutes": minutes,
        "size": size,
        "batch": batch,
        "speed.precision": precision,
        "output.evaluate_every": evaluate_every,
    }
    overrides = {key: value for key, value in options.items() if value is not None}
    resume = resume or checkpoint is not None
    if resume and preset:
        raise ConfigError("A run keeps its preset; leave out --preset, or change single settings with --set.")
    if resume and from_:
        raise ConfigError(
            "A run that goes on has its own weights; leave out --from, or start a new run without --resume and "
            "--checkpoint."
        )
    if direction and not from_:
        raise ConfigError(
            "--direction is of the generator that --from names; without it both are trained, leave it out."
        )
    if resume:
        run = resume_run(overrides, name=name, checkpoint=checkpoint, file=config, assignments=set_ or ())
    else:
        start = open_model(from_, direction) if from_ else None
        run = new_run(overrides, name=name, preset=preset or "paper", file=config, assignments=set_ or (), start=start)
    group = join_process_group(run.config.device)
    try:
        console.quiet = not group.is_main
        with hold(run.folder, new=not resume) if group.is_main else contextlib.nullcontext(run.folder) as folder:
            folder = group.broadcast(folder)
            for sentence in run.damaged:
                warn(sentence)
            if resume:
                console.print(f"Continuing from [bold]{escape(str(run.checkpoint))}[/bold].")
            if run.start:
                console.print(f"Starting from {run.start.note}.", markup=False)
            if run.changed:
                console.print(f"Changed: {', '.join(run.changed)}.")
            if folder != run.folder:
                console.print(
                    f"{run.folder} is there already (add --resume to continue it), so this is {folder}.", markup=False
                )
            show_training(replace(run, folder=folder), group)
    finally:
        leave_process_group()
    logs = escape(str(run.folder.parent))
    console.print(f"\nNext: [bold]cyclegan-edge export --fp16[/bold]   (curves: tensorboard --logdir {logs})")
