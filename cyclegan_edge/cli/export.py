"""`cyclegan-edge export`: a checkpoint in, a bundle of proven graphs and engines out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cyclegan_edge.cli.console import console, say
from cyclegan_edge.cli.engine import build_engines_in, explain_engine_of
from cyclegan_edge.cli.options import DirectionOption, parse_size
from cyclegan_edge.cli.verdicts import verdict_table
from cyclegan_edge.errors import ConfigError

if TYPE_CHECKING:
    from cyclegan_edge.export.config import ExportConfig
    from cyclegan_edge.export.parity import OnVerdict

ENGINE = "TensorRT engine, with --fp16"  # panel of the help


def export(
    source: Annotated[
        Path | None,
        typer.Argument(help="A run, any checkpoint, or a bundle that lacks an engine.", show_default="the newest run"),
    ] = None,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Also half precision, and the TensorRT engine where TensorRT is installed.")
    ] = False,
    ncnn: Annotated[
        bool, typer.Option("--ncnn", help="Also for ncnn, fast on CPUs and small boards; a bundle can get it later.")
    ] = False,
    bgr: Annotated[bool, typer.Option("--bgr", help="Also ONNX of uint8 BGR, for an OpenCV program of yours.")] = False,
    float_io: Annotated[
        bool, typer.Option("--float", help="Also ONNX of float32 (N, 3, H, W) RGB in -1..1, the network alone.")
    ] = False,
    fixed: Annotated[
        str | None, typer.Option(metavar="WxH", help="Also ONNX of this one size, batch 1.", show_default=False)
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Also 8 bits, for ONNX Runtime and OpenVINO; a bundle can get it later."),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Pictures to find the ranges of 8 bits on.", show_default="the run's training pictures"),
    ] = None,
    direction: DirectionOption = "ab",
    name: Annotated[
        str | None, typer.Option(help="The bundle is written to models/NAME.", show_default="the run's name")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Pictures to compare with PyTorch on.", show_default="the run's test pictures")
    ] = None,
    compare: Annotated[int, typer.Option(help="How many pictures are compared.")] = 16,
    triton: Annotated[
        Path | None, typer.Option(help="Also into this model repository of NVIDIA's Triton.", show_default=False)
    ] = None,
    engine_size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            help="Size the network works at; repeat for a range, fastest at the first.",
            show_default="around the model's",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures it takes at once.", rich_help_panel=ENGINE)
    ] = 1,
    workspace: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="Scratch memory for a layer.", rich_help_panel=ENGINE)
    ] = 1024,
    level: Annotated[
        int, typer.Option(min=0, max=5, help="0 builds in seconds, 5 tries every kernel.", rich_help_panel=ENGINE)
    ] = 3,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="8.6,8.9,...",
            help="Compute capabilities, for TensorRT for RTX.",
            show_default="Ampere and newer",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what each layer is and costs.", rich_help_panel=ENGINE)
    ] = False,
) -> None:
    """Write the generator of SOURCE as ONNX, prove that it gives PyTorch's pictures, and build its engine.

    What is out of bounds is not kept, and the exit code is 1 then.

    On a device without torch, copy the bundle there and name it as SOURCE: only the engine is built.
    """
    from cyclegan_edge.backends.tensorrt.build import EngineOptions
    from cyclegan_edge.bundle import MANIFEST, included_bundle, read_bundle
    from cyclegan_edge.export.config import ExportConfig
    from cyclegan_edge.export.formats.tensorrt import EngineRequest

    engine = EngineRequest(
        sizes=tuple(parse_size(text, "engine-size") for text in engine_size or ()),
        max_batch=max_batch,
        options=EngineOptions(workspace_mib=workspace, optimization_level=level),
        gpus=tuple(gpu.replace(" ", "").split(",")) if gpu else (),
    )
    if engine != EngineRequest() and not fp16:
        raise ConfigError("These options are about a TensorRT engine, but none is to be built; add --fp16.")
    config = ExportConfig(
        direction=direction,
        fp16=fp16,
        ncnn=ncnn,
        bgr=bgr,
        float_io=float_io,
        fixed=parse_size(fixed, "fixed") if fixed else None,
        int8=int8,
        calibrate=calibrate,
        pictures=pictures,
        compare=compare,
    )
    if source is not None and (included := included_bundle(source)):
        source = _copied(included, name)
    with verdict_table() as on_verdict:
        if source is not None and (source / MANIFEST).is_file():
            folder, half = extend_bundle(source, config, on_verdict), True
        elif explain and not fp16:
            raise ConfigError("--explain is about an engine; name a bundle that holds one, or add --fp16.")
        else:
            folder = export_run(source, name, config, on_verdict)
            half = read_bundle(folder).artifact("onnx", "fp16") is not None  # else it was out of bounds
        if fp16 and half:
            build_engines_in(folder, engine, on_verdict)
    if explain:
        explain_engine_of(folder, "fp16" if fp16 else None)
    if triton is not None:
        add_to_triton(folder, triton)
    console.print(
        f"\nNext: [bold]cyclegan-edge webcam {escape(str(folder))}[/bold]   (no camera? add --source synthetic)"
    )


def export_run(source: Path | None, name: str | None, config: "ExportConfig", on_verdict: "OnVerdict") -> Path:
    """Export the checkpoint that `source` means to the bundle models/NAME, saying what is done."""
    from cyclegan_edge.bundle import MODELS
    from cyclegan_edge.export.pipeline import export_checkpoint
    from cyclegan_edge.train.runs import resolve_checkpoint, with_direction

    run_name, checkpoint = resolve_checkpoint(source)
    folder = MODELS / (name or with_direction(run_name, config.direction))
    console.print(f"Exporting [bold]{escape(str(checkpoint))}[/bold].")
    export_checkpoint(
        checkpoint,
        folder,
        config,
        say=say,
        on_verdict=on_verdict,
    )
    console.print(f"The bundle is [bold]{escape(str(folder))}[/bold].")
    return folder


def _copied(included: Path, name: str | None) -> Path:
    """The model that comes with the package, where it can be extended: models/NAME."""
    import shutil

    from cyclegan_edge.bundle import MANIFEST, MODELS
    from cyclegan_edge.commit import atomic_folder

    folder = MODELS / (name or included.name)
    if not (folder / MANIFEST).is_file():
        console.print(f"{included.name} comes with the package; it is copied to {folder}.", markup=False)
        with atomic_folder(folder) as stage:
            shutil.copytree(included, stage, dirs_exist_ok=True)
    return folder


def extend_bundle(folder: Path, config: "ExportConfig", on_verdict: "OnVerdict") -> Path:
    """Convert the graph of the bundle `folder` for ncnn or to 8 bits if asked to. Raises ConfigError for others."""
    from cyclegan_edge.backends import open_backend
    from cyclegan_edge.bundle import read_bundle
    from cyclegan_edge.export.formats.ncnn import ncnn_target
    from cyclegan_edge.export.pipeline import add_to_bundle

    new = {"--bgr": config.bgr, "--float": config.float_io, "--fixed": config.fixed is not None}
    if option := next((name for name, wanted in new.items() if wanted), None):
        raise ConfigError(f"{folder} is a bundle, but {option} needs the weights of a run; name that run instead.")
    if config.ncnn:
        add_to_bundle(read_bundle(folder), map(ncnn_target, config.precisions), on_verdict)
    if config.int8:
        from cyclegan_edge.export.formats.int8 import int8_target, load_calibration

        bundle = read_bundle(folder)
        pictures = load_calibration(config.calibrate, bundle.manifest.size)
        exact = open_backend(bundle, engine="onnxruntime", precision="fp32").backend
        add_to_bundle(bundle, [int8_target(pictures, exact.run)], on_verdict)
    return folder


def add_to_triton(folder: Path, repository: Path) -> None:
    """Write what Triton can serve of the bundle `folder` into its model repository, saying what and how to start it."""
    from cyclegan_edge.export.formats.triton import add_triton

    console.print(f"\nWriting into the model repository [bold]{escape(str(repository))}[/bold].")
    add_triton(folder, repository, say=say)
    console.print(f"To serve it: [bold]tritonserver --model-repository={escape(str(repository.resolve()))}[/bold]")
