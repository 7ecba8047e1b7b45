"""`cyclegan-edge export`: a checkpoint in, a bundle of proven graphs and engines out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, progress_bar
from cyclegan_edge.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from cyclegan_edge.export.config import ExportConfig

MODELS = Path("models")


def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A run, a checkpoint of any CycleGAN, or a bundle that lacks an engine.",
            show_default="the newest run",
        ),
    ] = None,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Also half precision, and the TensorRT engine where TensorRT is installed.")
    ] = False,
    ncnn: Annotated[
        bool, typer.Option("--ncnn", help="Also for ncnn, fast on CPUs and small boards; a bundle can get it later.")
    ] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="Also as native code for this machine, which torch runs.")] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Also in bfloat16: the ONNX graph and, with --pt2, the native code.")
    ] = False,
    bgr: Annotated[bool, typer.Option("--bgr", help="Also ONNX of uint8 BGR, for an OpenCV program of yours.")] = False,
    float_io: Annotated[
        bool, typer.Option("--float", help="Also ONNX of float32 (N, 3, H, W) RGB in -1..1, the network alone.")
    ] = False,
    fixed: Annotated[
        str | None, typer.Option(metavar="WxH", help="Also ONNX of this one size, batch 1.", show_default=False)
    ] = None,
    direction: Annotated[Literal["ab", "ba"], typer.Option(help="ab: the generator that turns A into B.")] = "ab",
    name: Annotated[
        str | None, typer.Option(help="The bundle is written to models/NAME.", show_default="the run's name")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Pictures to compare with PyTorch on.", show_default="the run's test pictures")
    ] = None,
    compare: Annotated[int, typer.Option(help="How many pictures are compared.")] = 16,
) -> None:
    """Write the generator of SOURCE as ONNX, prove that it gives PyTorch's pictures, and build its engine.

    On a device without torch, copy the bundle there and name it as SOURCE: only the engine is built.
    """
    from cyclegan_edge.bundle import MANIFEST

    if source is not None and (source / MANIFEST).is_file():
        folder = source
        asked = {"--pt2": pt2, "--bf16": bf16, "--bgr": bgr, "--float": float_io, "--fixed": fixed is not None}
        if option := next((name for name, wanted in asked.items() if wanted), None):
            raise ConfigError(f"{source} is a bundle, but {option} needs the weights of a run; name that run instead.")
        if ncnn:
            add_ncnn_to(folder, fp16=fp16)
    else:
        from cyclegan_edge.export.config import ExportConfig

        run_name, checkpoint = find_source(source)
        bundle_name = name or directed(run_name, direction)
        config = ExportConfig(
            direction=direction,
            fp16=fp16,
            ncnn=ncnn,
            pt2=pt2,
            bf16=bf16,
            bgr=bgr,
            float_io=float_io,
            fixed=parse_size("fixed", fixed, example="448x256"),
            pictures=pictures,
            compare=compare,
        )
        folder = export_to(checkpoint, MODELS / bundle_name, config)
    if fp16:
        build_engine_in(folder)
    console.print(f"\nNext: [bold]cyclegan-edge webcam {folder}[/bold]   (no camera? add --source synthetic)")


def export_to(checkpoint: Path, folder: Path, config: "ExportConfig") -> Path:
    """Export `checkpoint` to the bundle `folder`, saying what is done."""
    from cyclegan_edge.export.assemble import export_checkpoint

    console.print(f"Exporting [bold]{checkpoint}[/bold].")
    export_checkpoint(checkpoint, folder, config, report=lambda line: console.print(f"  {line}", markup=False))
    console.print(f"The bundle is [bold]{folder}[/bold].")
    return folder


def add_ncnn_to(folder: Path, *, fp16: bool) -> None:
    """Convert the graph of the bundle `folder` for ncnn, with `fp16` a second time with weights of half the size."""
    from cyclegan_edge.export.to_ncnn import add_ncnn

    for precision in ("fp32", "fp16") if fp16 else ("fp32",):
        add_ncnn(folder, precision=precision, say=lambda line: console.print(f"  {line}", markup=False))


def build_engine_in(folder: Path) -> None:
    """Build the TensorRT engine of the bundle `folder`, or say plainly why that has to wait for the device."""
    from cyclegan_edge.export.engine import add_engine
    from cyclegan_edge.export.to_tensorrt import tensorrt_version, why_missing

    if tensorrt_version() is None:
        console.print(
            f"\n[yellow]No engine was built:[/yellow] {escape(why_missing())}\n"
            f"To finish on the device, copy {folder} there and type "
            f"[bold]cyclegan-edge export {folder} --fp16[/bold]"
        )
        return
    with progress_bar() as bar:
        task = bar.add_task("building", note="", total=None)

        def report(phase: str, done: int, total: int) -> bool:
            bar.update(task, completed=done, total=total, note=phase)
            return True

        add_engine(folder, report=report, say=lambda line: console.print(f"  {line}", markup=False))


def directed(name: str, direction: Literal["ab", "ba"]) -> str:
    """The name of a generator's files: "horse2zebra", "horse2zebra-ba"."""
    return name if direction == "ab" or name.endswith("-ba") else f"{name}-{direction}"


def parse_size(option: str, text: str | None, *, example: str) -> tuple[int, int] | None:
    """ "640x480" -> (480, 640), height and width in px. Raises ConfigError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise ConfigError(f"{option} is {text!r}, expected WIDTHxHEIGHT in pixels; try {example}.")
    return int(match[2]), int(match[1])


def find_source(source: Path | None) -> tuple[str, Path]:
    """What to call it, and the checkpoint that `source` means: a run, anyone's file, or None for the newest run."""
    from cyclegan_edge.cli.import_ import model_name
    from cyclegan_edge.cli.train import RUNS
    from cyclegan_edge.files import newest
    from cyclegan_edge.train.checkpoint import find_checkpoint

    if source is not None and source.is_file():
        folder = source.resolve().parent
        ours = folder.name == "checkpoints" and source.stem.startswith("step_")
        return (folder.parent.name if ours else model_name(source)), source
    run = source if source is not None else newest(RUNS, "checkpoints")
    if run is None:
        raise CheckpointError(
            f"There is no run in {RUNS}; train one with `cyclegan-edge train DATA`, or name a checkpoint."
        )
    checkpoint = find_checkpoint(run)
    if checkpoint is None:
        raise CheckpointError(
            f"{run} is neither a checkpoint, a run with checkpoints, nor a bundle; name one of those."
        )
    return run.resolve().name, checkpoint
