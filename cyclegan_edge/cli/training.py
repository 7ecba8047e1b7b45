"""What the commands that train share: the model they start from, what they print of a run, how a signal ends it."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from cyclegan_edge.cli.console import console, counting, print_some, warn
from cyclegan_edge.contract import Direction
from cyclegan_edge.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from cyclegan_edge.train.distributed import ProcessGroup
    from cyclegan_edge.train.progress import Progress
    from cyclegan_edge.train.runs import OpenedData, Run
    from cyclegan_edge.train.warm_start import WarmStart

GRACE = 3.0  # seconds after the first signal in which others are taken for the same one


def open_model(model: Path, direction: Direction | None) -> "WarmStart":
    """What `--from` names: the last checkpoint of a run, a checkpoint, anyone's weights, or an exported model."""
    from cyclegan_edge.bundle import MANIFEST, included_bundle, read_bundle
    from cyclegan_edge.train.runs import resolve_checkpoint
    from cyclegan_edge.train.warm_start import start_from_checkpoint

    if (model / MANIFEST).is_file() or included_bundle(model):
        if direction:
            raise ConfigError(f"{model} says what its generator is; leave out --direction {direction}.")
        from cyclegan_edge.export.weights.trainable import start_from_bundle  # onnx: only when needed

        return start_from_bundle(read_bundle(model))
    _, path = resolve_checkpoint(model)
    if start := start_from_checkpoint(path):
        if direction:
            raise ConfigError(f"{path} says what its networks are; leave out --direction {direction}.")
        return start
    from cyclegan_edge.export.weights.trainable import start_from_weights  # safetensors: only when needed

    return start_from_weights(path, direction)


def show_training(run: "Run", group: "ProcessGroup | None" = None) -> dict[str, float]:
    """Train with a progress bar; the last losses come back. A signal finishes the step, saves, and ends it."""
    from cyclegan_edge.train.checkpoint import check_space
    from cyclegan_edge.train.loop import choose_device, choose_execution, fit

    config = run.config
    device, execution = choose_device(config), choose_execution(config, group)
    many = f"{group.world_size} processes on " if group and group.world_size > 1 else ""
    console.print(
        f"Training in [bold]{escape(str(run.folder))}[/bold] on {many}{escape(describe_device(device))}: "
        f"{config.size} px, {config.generator.kind} of width {config.generator.width}; {execution}."
    )
    if sentence := check_space(run.folder, config):
        warn(sentence)
    data = _open(run)
    return show_steps(
        lambda stop: fit(
            config,
            data.pairs,
            run.folder,
            resume=run.checkpoint,
            start=run.start,
            stop=stop,
            group=group,
            held=True,
        ),
        unit="pairs",
        resume=f"cyclegan-edge train --resume --name {run.folder.name}",
    )


def show_steps(
    train: Callable[[Callable[[], bool]], "Iterator[Progress]"], *, unit: str, resume: str
) -> dict[str, float]:
    """Train with a progress bar; the last losses come back. A signal finishes the step, saves, and ends it.

    train    takes the function that says when to stop
    unit     what is counted in a second
    resume   the command that goes on with the run
    """
    losses: dict[str, float] = {}
    last: Progress | None = None
    with stop_on_signal() as asked, counting("training") as show:
        for last in train(lambda: bool(asked)):
            losses = last.losses or losses
            for warning in last.warnings:
                warn(warning)
            total = last.total or max(last.step, round(last.step / max(last.share, 1e-6)))
            show(last.step, total, _note(last, losses, unit), last.seconds_left)
    if last is None:
        console.print(
            "The run has reached its end already; to train on, give it a later one: --steps, --epochs or --minutes."
        )
    elif last.share < 1.0:
        console.print(
            f"Stopped after step {last.step}{f' of {last.total}' if last.total else ''}; "
            f"go on with [bold]{escape(resume)}[/bold]."
        )
    return losses


@contextlib.contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """A list that is no longer empty once Ctrl-C, SIGTERM or, without nohup, SIGHUP (a lost ssh) came.

    One request often arrives as several signals: `timeout` sends two at once, torchrun passes on what the terminal sent
    already. So only one that comes GRACE seconds later ends the process, and by the signal itself: a KeyboardInterrupt
    could be raised, and lost, in a destructor of torch.
    """
    asked: list[int] = []
    first, terminal = 0.0, console.is_terminal
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if previous[signal.SIGHUP] is signal.SIG_IGN:
        del previous[signal.SIGHUP]

    def ask(number: int, frame: object) -> None:
        nonlocal first
        if number == signal.SIGHUP and terminal:
            console.quiet = True  # it has gone, and writing to it is an error
        if not asked:
            first = time.monotonic()
            asked.append(number)
            with contextlib.suppress(SystemExit):  # by rich, when the same Ctrl-C has ended a `| tee`; it is quiet then
                console.print(f"Finishing this step and saving; again after {GRACE:g} seconds stops without saving.")
        elif time.monotonic() > first + GRACE:
            console.print("Stopped without saving.")
            console.show_cursor()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _open(run: "Run") -> "OpenedData":
    from cyclegan_edge.train.runs import open_data

    with counting("reading") as on_progress:
        data = open_data(run.config, on_progress=on_progress)
    if data.skipped:
        warn(f"{len(data.skipped)} files were left out:")
        print_some(data.skipped, " ")
    for sentence in data.unread:
        warn(sentence)
    a, b = data.counts
    where = " in shards" if data.sharded else ""
    if data.folders != ("trainA", "trainB"):
        where = f", from {data.folders[0]} and {data.folders[1]}"
    console.print(f"{a} pictures of A, {b} of B{where}, {len(data.pairs)} pairs an epoch.", markup=False)
    return data


def _note(progress: "Progress", losses: dict[str, float], unit: str) -> str:
    if not losses:
        return ""
    name, value = "cycle", (losses.get("cycle_a", 0.0) + losses.get("cycle_b", 0.0)) / 2
    if "features" in losses:
        name, value = "features", losses["features"]
    return f"{progress.pairs_per_second:.2f} {unit}/s, {name} {value:.3f}"


def describe_device(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name() if device.type == "cuda" else f"the CPU, {torch.get_num_threads()} threads"
