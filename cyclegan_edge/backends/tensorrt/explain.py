"""What TensorRT made of each layer of an engine, and what each costs; without a GPU, what it reads of the graph."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclegan_edge.backends.tensorrt.api import TensorRT
from cyclegan_edge.backends.tensorrt.build import parse
from cyclegan_edge.backends.tensorrt.library import CHANNELS, TENSORRT, Edition
from cyclegan_edge.backends.tensorrt.plan import open_plan
from cyclegan_edge.backends.tensorrt.run import Slot
from cyclegan_edge.bundle import Bundle
from cyclegan_edge.contract import Precision

WARM_UP = 5  # runs that are not counted: clocks rise, caches fill
RUNS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One line of the layer table, in TensorRT's words."""

    name: str
    kind: str  # "CaskConvolution"; empty where TensorRT names the layer and nothing else
    inputs: tuple[str, ...]  # format and type of each: "Channel major FP16 format where channel % 8 == 0"
    outputs: tuple[str, ...]
    tactic: str  # the kernel, where TensorRT names one
    milliseconds: float | None  # mean of the runs; None: part of another layer's


def explain(
    bundle: Bundle,
    precision: Precision = "fp16",
    edition: Edition = TENSORRT,
    *,
    runs: int = RUNS,
) -> tuple[Layer, ...]:
    """Every layer of the bundle's engine in the order it runs, with its time at the size it was built to be fastest at.

    With a profiler attached, TensorRT waits after each layer, so the sum is more than a translation takes.
    Raises what `open_plan` raises, and EngineError when the engine does not run.
    """
    plan = open_plan(bundle, precision, edition)
    images = np.random.default_rng(0).integers(0, 256, (*plan.best, CHANNELS), dtype=np.uint8)
    spent: dict[str, float] = {}
    profiler = _profiler(plan.trt, spent)  # must outlive the context that it is given to
    with Slot(plan, cuda_graph=False) as slot:
        context = slot.context
        for _ in range(WARM_UP):
            slot.run(images)
        context.profiler = profiler
        for _ in range(runs):
            slot.run(images)
        inspector = plan.engine.create_engine_inspector()
        inspector.execution_context = context  # without it the formats are "N/A due to dynamic shapes"
        information = json.loads(inspector.get_engine_information(plan.trt.LayerInformationFormat.JSON))
        del inspector, context
    means = {name: total / runs for name, total in spent.items()}
    known = [_layer(found, means) for found in information.get("Layers", ())]
    named = {layer.name for layer in known}
    return *known, *(_layer(name, means) for name in means if name not in named)


def parsed_layers(graph: Path, edition: Edition) -> tuple[Layer, ...]:
    """Every layer of the ONNX file `graph` as TensorRT reads it, before any is fused; needs no GPU with RTX.

    Raises EngineError when the edition is missing or does not start, ExportError when it cannot read the graph.
    """
    builder, network, parser = parse(graph, edition)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    found = tuple(
        Layer(
            name=layer.name,
            kind=layer.type.name,
            inputs=tuple(it.dtype.name for index in range(layer.num_inputs) if (it := layer.get_input(index))),
            outputs=tuple(layer.get_output(index).dtype.name for index in range(layer.num_outputs)),
            tactic="",
            milliseconds=None,
        )
        for layer in layers
    )
    del builder, parser  # not before: the network is theirs
    return found


def _profiler(trt: TensorRT, spent: dict[str, float]) -> Any:
    """Adds what TensorRT reports of each layer to `spent`, in milliseconds."""

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]  # a class of TensorRT's
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            spent[layer_name] = spent.get(layer_name, 0.0) + ms

    return Profiler()


def _layer(found: dict[str, Any] | str, means: dict[str, float]) -> Layer:
    if isinstance(found, str):  # a plan built without detailed verbosity names its layers and nothing else
        return Layer(name=found, kind="", inputs=(), outputs=(), tactic="", milliseconds=means.get(found))
    name = str(found.get("Name", ""))
    return Layer(
        name=name,
        kind=str(found.get("LayerType", "")),
        inputs=tuple(str(tensor.get("Format/Datatype", "")) for tensor in found.get("Inputs", ())),
        outputs=tuple(str(tensor.get("Format/Datatype", "")) for tensor in found.get("Outputs", ())),
        tactic=str(found.get("TacticName", "")),
        milliseconds=means.get(name),
    )
