"""`cyclegan-edge distill`: a trained generator in, a small one of the same direction out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, counting, warn
from cyclegan_edge.cli.options import DirectionOption
from cyclegan_edge.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch

    from cyclegan_edge.backends.measured import Report, Row
    from cyclegan_edge.train.distill.config import DistillConfig
    from cyclegan_edge.train.distill.teacher import TaughtPictures
    from cyclegan_edge.train.networks import GeneratorConfig
    from cyclegan_edge.train.warm_start import WarmStart

    Choose = Callable[[int], GeneratorConfig]


def distill(
    teacher: Annotated[
        Path | None, typer.Argument(help="A run, a checkpoint, or anyone's weights.", show_default="the newest run")
    ] = None,
    data: Annotated[
        Path | None, typer.Argument(help="Folder that holds trainA/ and trainB/.", show_default="the teacher's")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="MS", help="Milliseconds a picture may take here: the largest student that fits."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Where --budget is meant: a machine that was recorded, or a file of `bench engines --shapes`.",
            show_default="here",
        ),
    ] = None,
    direction: DirectionOption = "ab",
    domains: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names of the folders of the two domains in DATA.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run is written to runs/NAME.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as a TOML file.")] = None,
    steps: Annotated[int | None, typer.Option(help="Stop after this many steps.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop after this many times all pictures.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this much time in training.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of the crops.", show_default="the teacher's")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures per step.", show_default="2")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, for instance generator.width=32."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="MODEL", help="Start from this student: a run, a checkpoint, weights, an exported model."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue runs/NAME where it stopped.")] = False,
) -> None:
    """Teach a small generator what TEACHER does, for devices that cannot run it.

    TEACHER translates the pictures of DATA once; the student learns from those. Ctrl-C finishes the step, saves, and
    stops; --resume goes on from there.
    """
    from cyclegan_edge.cli.training import open_model
    from cyclegan_edge.train.runs import RUNS, hold

    options = {
        "data": str(data.resolve()) if data else None,
        "domains": domains,
        "schedule.steps": steps,
        "schedule.epochs": epochs,
        "schedule.minutes": minutes,
        "size": size,
        "batch": batch,
    }
    overrides: dict[str, object] = {key: value for key, value in options.items() if value is not None}
    if device is not None and budget is None:
        raise ConfigError("--device says where the budget is meant, but there is none; add --budget MS.")
    start = None
    if resume:
        if teacher or budget or from_:
            raise ConfigError("A run keeps its teacher and its student; leave out TEACHER, --budget and --from.")
        folder, settings, checkpoint = _resumed(name, overrides, config, set_ or ())
    else:
        if budget and from_:
            raise ConfigError(
                "A student that is there has its shape; leave out --budget, or --from, or make it wider by --set "
                "generator.width."
            )
        start = open_model(from_, None) if from_ else None
        choose = _chooser(budget, device) if budget is not None else None
        settings, base = _new(teacher, direction, overrides, config, set_ or (), choose, start)
        folder, checkpoint = RUNS / (name or f"{base}-small"), None
    with hold(folder, new=not resume) as held:
        if checkpoint:
            console.print(f"Continuing from [bold]{escape(str(checkpoint))}[/bold].")
        elif held != folder:
            console.print(f"{folder} is there already (add --resume to continue it), so this is {held}.", markup=False)
        if start:
            console.print(f"Starting from {start.origin.file}.", markup=False)
        _run(held, settings, checkpoint, start)
    console.print(f"\nNext: [bold]cyclegan-edge export {escape(str(held))} --fp16[/bold]")


def _new(
    teacher: Path | None,
    direction: Any,
    overrides: dict[str, object],
    file: Path | None,
    assignments: Sequence[str],
    choose: "Choose | None",
    start: "WarmStart | None",
) -> "tuple[DistillConfig, str]":
    """The settings of a run that starts, and what its teacher is called.

    choose   the student's shape, for a size; None: what the settings say
    """
    from cyclegan_edge.export.weights.open import open_generator
    from cyclegan_edge.schema import to_mapping
    from cyclegan_edge.settings import load_settings
    from cyclegan_edge.train.distill.config import DistillConfig, default_settings
    from cyclegan_edge.train.distill.reshape import check_reachable
    from cyclegan_edge.train.runs import resolve_checkpoint, with_direction

    base, checkpoint = resolve_checkpoint(teacher)
    trained = open_generator(checkpoint, direction)
    defaults: dict[str, object] = {"teacher": str(checkpoint.resolve()), "direction": trained.direction}
    defaults["size"] = trained.size
    if trained.data is not None:
        defaults["data"] = str(trained.data)
        defaults["domains"] = ",".join(trained.domains or ())
    basis = default_settings()
    if start is not None:
        if f"generator_{trained.direction}" not in start.networks:
            raise ConfigError(
                f"{start.origin.file} has no generator {trained.direction}, which is the teacher's direction; name "
                f"another student, or leave out --from."
            )
        basis.update(generator=to_mapping(start.generator), origin=to_mapping(start.origin))
    if "data" not in {**defaults, **overrides} and file is None:
        raise ConfigError(f"{checkpoint} does not know its pictures; name the folder that holds trainA/ and trainB/.")
    overrides = {**defaults, **overrides}
    settings = load_settings(DistillConfig, file, assignments, base=basis, overrides=overrides)
    if start is not None:
        check_reachable(start.generator, settings.generator)
    if choose is not None:
        settings = replace(settings, generator=choose(settings.size))
    return settings, with_direction(base, trained.direction)


def _chooser(budget: str, device: str | None) -> "Choose":
    """What chooses the largest student within the budget, here or on the device, saying what it rests on."""
    milliseconds = _milliseconds(budget)
    if device is None:
        return partial(_within, milliseconds)
    from cyclegan_edge.backends.measured import report_of

    return partial(_recorded_within, milliseconds, report_of(device))


def _within(milliseconds: float, size: int) -> "GeneratorConfig":
    import os

    from cyclegan_edge.export.budget import largest_within, measure_shape

    threads = len(os.sched_getaffinity(0))

    def measure(shape: "GeneratorConfig") -> "Row":
        row = measure_shape(shape, size=size, threads=threads)
        console.print(f"  {_told(shape, row)}", markup=False)
        return row

    console.print(f"Looking for the largest student within {milliseconds:g} ms at {size} px on this machine.")
    shape, row = largest_within(milliseconds, measure)
    console.print(f"Taken: width {shape.width}, {shape.blocks} blocks, {row.median_ms:.1f} ms.")
    return shape


def _recorded_within(milliseconds: float, report: "Report", size: int) -> "GeneratorConfig":
    from cyclegan_edge.export.budget import largest_recorded

    shape, row = largest_recorded(milliseconds, report, size=size)
    where = ", ".join(dict.fromkeys((report.machine.name, report.machine.cpu, row.device)))
    console.print(
        f"The largest student within {milliseconds:g} ms at {size} px, as measured on {report.date} on {where}:\n"
        f"  {_told(shape, row)}",
        markup=False,
    )
    return shape


def _told(shape: "GeneratorConfig", row: "Row") -> str:
    return f"width {shape.width}, {shape.blocks} blocks: {row.median_ms:.1f} ms with {row.engine} {row.precision}"


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*(?:ms)?", text.strip())
    if match is None or not float(match[1]):
        raise ConfigError(f"--budget is {text!r}, expected milliseconds, as in --budget 16ms.")
    return float(match[1])


def _resumed(
    name: str | None, overrides: dict[str, object], file: Path | None, assignments: Sequence[str]
) -> "tuple[Path, DistillConfig, Path]":
    """The run, its settings save those given, and its last checkpoint that can be read."""
    from cyclegan_edge.train.checkpoint_files import last_that_reads
    from cyclegan_edge.train.distill.config import FIXED
    from cyclegan_edge.train.distill.state import check_distillation, distill_config_of
    from cyclegan_edge.train.runs import RUNS, changed_settings, newest_run
    from cyclegan_edge.train.torch_file import read_torch_file

    folder = RUNS / name if name else newest_run()
    found, damaged = last_that_reads(
        folder, lambda path: distill_config_of(check_distillation(read_torch_file(path), path), path)
    )
    for sentence in damaged:
        warn(sentence)
    if not found:
        raise CheckpointError(f"{folder} has no checkpoint of a distillation; start one with `cyclegan-edge distill`.")
    checkpoint, before = found
    settings, different = changed_settings(before, overrides, file=file, assignments=assignments, fixed=FIXED)
    if different:
        console.print(f"Changed: {', '.join(different)}.")
    return folder, settings, checkpoint


def _run(folder: Path, config: "DistillConfig", checkpoint: Path | None, start: "WarmStart | None") -> None:
    from cyclegan_edge.cli.training import describe_device, show_steps
    from cyclegan_edge.train.distill.loop import choose_execution, distill
    from cyclegan_edge.train.loop import choose_device

    device = choose_device(config)
    shape = config.generator
    console.print(
        f"Distilling in [bold]{escape(str(folder))}[/bold] on {escape(describe_device(device))}: {config.size} px, "
        f"{shape.kind} of width {shape.width} with {shape.blocks} blocks; {choose_execution(config, device)}."
    )
    taught, channels = _taught(folder, config, device)
    show_steps(
        lambda stop: distill(
            config, taught, folder, device=device, channels=channels, resume=checkpoint, start=start, stop=stop
        ),
        unit="pictures",
        resume=f"cyclegan-edge distill --resume --name {folder.name}",
    )


def _taught(folder: Path, config: "DistillConfig", device: "torch.device") -> "tuple[TaughtPictures, tuple[int, int]]":
    """The teacher's pictures, made now or before; channels that it takes and gives."""
    import torch

    from cyclegan_edge.export.weights.open import open_generator
    from cyclegan_edge.train.distill.loop import choose_execution, pictures_of
    from cyclegan_edge.train.distill.teacher import keep_real_pictures, sizes_of, teach_pictures
    from cyclegan_edge.train.evaluate.picture_generator import translate_with

    trained = open_generator(Path(config.teacher), config.direction)
    convolutions = [layer for layer in trained.generator.modules() if isinstance(layer, torch.nn.modules.conv._ConvNd)]
    inputs = convolutions[0].in_channels
    with torch.no_grad():
        side = max(64, trained.multiple)
        outputs = trained.generator(torch.zeros(1, inputs, side, side)).shape[1]
    paths, sizes = pictures_of(config, "source"), sizes_of(config.size, trained.multiple)
    translate = translate_with(trained.generator.to(device))
    with choose_execution(config, device).autocast(device), counting("teacher's pictures") as on_progress:
        taught = teach_pictures(folder, translate, trained.source.sha256, paths, sizes, on_progress=on_progress)
    console.print(
        f"{len(taught)} pictures, translated by {trained.source.file} at {sizes[0]} and {sizes[1]} px.", markup=False
    )
    if config.objective.adversarial and config.objective.real:
        with counting("real pictures") as on_progress:
            real = keep_real_pictures(folder, pictures_of(config, "real"), sizes[1], on_progress=on_progress)
        taught = replace(taught, real=real)
    return taught, (inputs, outputs)
