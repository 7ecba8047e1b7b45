"""What the commands do with TensorRT engines: build one, explain it, rebuild one that came from elsewhere."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Column, Table

from cyclegan_edge.backends.base import EngineName
from cyclegan_edge.bundle import Artifact, Bundle
from cyclegan_edge.cli.console import console, counting
from cyclegan_edge.cli.verdicts import verdict_table
from cyclegan_edge.contract import GraphPrecision, Precision, WantedPrecision
from cyclegan_edge.errors import BundleError, CycleGanEdgeError, EngineError

if TYPE_CHECKING:
    from cyclegan_edge.backends.tensorrt.build import OnProgress
    from cyclegan_edge.backends.tensorrt.explain import Layer
    from cyclegan_edge.backends.tensorrt.library import Edition
    from cyclegan_edge.export.formats.tensorrt import EngineRequest
    from cyclegan_edge.export.parity import OnVerdict

TYPES = ("FP32", "FP16", "BF16", "FP8", "FP4", "INT64", "INT32", "UINT8", "INT8", "INT4", "BOOL", "Float", "Half")


def build_engines_in(folder: Path, request: "EngineRequest", on_verdict: "OnVerdict") -> None:
    """Build the bundle's engine with every TensorRT that is installed, or say plainly why that has to wait."""
    from cyclegan_edge.backends.tensorrt.library import RTX, TENSORRT, load, version_of, why_missing
    from cyclegan_edge.bundle import read_bundle
    from cyclegan_edge.export.formats.tensorrt import add_engine, engine_shapes

    if request.gpus:
        load(RTX)  # which is what they are for
    installed = [edition for edition in (RTX, TENSORRT) if version_of(edition) is not None]
    if not installed:
        console.print(
            f"\n[yellow]No engine was built:[/yellow] {escape(why_missing(TENSORRT))} {escape(why_missing(RTX))}\n"
            f"To finish on the device, copy {escape(str(folder))} there and type "
            f"[bold]cyclegan-edge export {escape(str(folder))} --fp16[/bold]"
        )
        return
    shapes = engine_shapes(read_bundle(folder).manifest, request.sizes, request.max_batch)
    for edition in installed:
        with _building() as on_progress:
            add_engine(
                folder,
                edition,
                shapes=shapes,
                options=request.options,
                gpus=request.gpus if edition is RTX else (),
                on_progress=on_progress,
                on_verdict=on_verdict,
            )


def explain_engine_of(folder: Path, precision: Precision | None) -> None:
    """Print what each layer of the bundle's engine is and costs, the costliest first."""
    from cyclegan_edge.backends.tensorrt.explain import RUNS, explain, parsed_layers
    from cyclegan_edge.backends.tensorrt.library import EDITIONS
    from cyclegan_edge.bundle import read_bundle

    bundle = read_bundle(folder)
    held = _engine_of(bundle, precision, EDITIONS.values())
    if held is None:
        raise BundleError(
            f"{folder} holds no engine to explain; build one with `cyclegan-edge export {folder} --fp16`."
        )
    edition, engine = held
    graph = bundle.artifact("onnx", engine.precision)
    console.print()
    try:
        console.print(layer_table(explain(bundle, engine.precision, edition)))
    except EngineError as error:
        if graph is None or not edition.portable:
            raise
        console.print(kind_table(parsed_layers(bundle.path(graph), edition)))
        console.print(
            f"As {edition.title} reads {graph.file}. What it fuses and each layer costs, a GPU shows: {error}",
            markup=False,
        )
    else:
        console.print(
            f"Mean of {RUNS} runs with TensorRT waiting after each layer; a translation takes less than the sum."
        )
    if graph is not None and (parity := graph.parity) is not None:
        console.print(
            f"Its graph, {graph.file}, is at most {parity.max_levels} of 255 levels and {parity.psnr_db:.1f} dB from "
            f"PyTorch on {parity.images} pictures.",
            markup=False,
        )


def layer_table(layers: "tuple[Layer, ...]") -> Table:
    """One line per layer, the costliest first, and the sum."""
    total = sum(layer.milliseconds or 0.0 for layer in layers)
    table = Table("layer", "kind", "in", "out", "tactic", "ms", "share", box=None, pad_edge=False, show_footer=True)
    for column in table.columns[-2:]:
        column.justify = "right"
    for column, foot in zip(table.columns, (f"{len(layers)} layers", "", "", "", "", f"{total:.3f}", ""), strict=True):
        column.footer = foot
        column.overflow = "fold"
    for layer in sorted(layers, key=lambda layer: -(layer.milliseconds or 0.0)):
        spent = layer.milliseconds
        cost = ("", "") if spent is None else (f"{spent:.3f}", f"{spent / total:.1%}" if total else "")
        words = (layer.name, layer.kind, _types(layer.inputs), _types(layer.outputs), layer.tactic)
        table.add_row(*map(escape, words), *cost)
    return table


def kind_table(layers: "tuple[Layer, ...]") -> Table:
    """How many layers there are of each kind and type, the most frequent first."""
    table = Table("kind", "in", "out", Column("layers", justify="right"), box=None, pad_edge=False)
    kinds = Counter((layer.kind, _types(layer.inputs), _types(layer.outputs)) for layer in layers)
    for (kind, inputs, outputs), count in kinds.most_common():
        table.add_row(*map(escape, (kind, inputs, outputs)), str(count))
    table.add_row("all", "", "", str(len(layers)), style="bold")
    return table


def offer_rebuild(folder: Path, *, engine: EngineName, precision: WantedPrecision | None, yes: bool) -> None:
    """Where the engine that would be opened was built elsewhere, rebuild it here if whoever asks agrees.

    Does nothing where opening it will say what is wrong: no engine, no TensorRT, no GPU, nobody at a terminal.
    """
    from cyclegan_edge.backends.tensorrt.library import TENSORRT, this_device
    from cyclegan_edge.backends.tensorrt.plan import why_foreign
    from cyclegan_edge.bundle import read_bundle

    if engine not in ("auto", "tensorrt") or not (yes or _someone_is_there()):
        return
    held = _engine_of(read_bundle(folder), None if precision == "any" else precision, (TENSORRT,))
    try:
        reason = why_foreign(held[1], this_device()) if held else None
    except CycleGanEdgeError:
        return
    if held is None or reason is None:
        return
    console.print(f"{reason}.", markup=False)
    if yes or typer.confirm("Rebuild it here? It takes minutes."):
        from cyclegan_edge.export.formats.tensorrt import rebuild_engine

        with verdict_table() as on_verdict, _building() as on_progress:
            rebuild_engine(folder, held[1].precision, on_progress=on_progress, on_verdict=on_verdict)


def _engine_of(
    bundle: Bundle, precision: Precision | None, editions: "Iterable[Edition]"
) -> "tuple[Edition, Artifact] | None":
    """Which engine the bundle holds: of the precision asked for, else the first that would be opened."""
    precisions: tuple[GraphPrecision, ...] = ("fp16", "fp32")
    names = ((edition, it) for edition in editions for it in precisions if precision in (None, it))
    held = ((edition, bundle.artifact(edition.name, it)) for edition, it in names)
    return next(((edition, artifact) for edition, artifact in held if artifact), None)


def _someone_is_there() -> bool:
    return console.is_terminal and sys.stdin.isatty()


@contextmanager
def _building() -> "Iterator[OnProgress]":
    with counting("building") as show:

        def on_progress(phase: str, done: int, total: int) -> bool:
            show(done, total, phase)
            return True

        yield on_progress


def _types(formats: tuple[str, ...]) -> str:
    """ "Channel major FP16 format where channel % 8 == 0" -> "FP16"; what names no known type stays as it is."""
    short = (next((name for name in TYPES if name in words), words) for words in formats)
    return ", ".join(dict.fromkeys(short))
