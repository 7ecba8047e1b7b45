"""ONNX graph -> engine: of TensorRT on the device that will run it, of TensorRT for RTX anywhere.

    image, translated    uint8 (N, H, W, 3) RGB, as in the graph

How a half-precision engine is made depends on the TensorRT that is installed:

    10.3 .. 10.11   weakly typed: from the float32 graph, TensorRT may choose half (BuilderFlag.FP16)
    10.12 .. 10.x   strongly typed: from the fp16 graph, which says for each layer what it computes in
    11.x, for RTX   always strongly typed; that flag is gone

`graph_precision_needed` says which graph to pass; the other one is refused, because TensorRT would take it without a
word and build something else. Flags are made from names: their values differ between 10 and 11.
"""

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclegan_edge.backends.tensorrt.api import Builder, IBuilderConfig, INetworkDefinition, OnnxParser, TensorRT
from cyclegan_edge.backends.tensorrt.library import (
    AMPERE_AND_NEWER,
    CHANNELS,
    COMPUTE_CAPABILITIES,
    TENSORRT,
    Edition,
    Shape,
    create,
    expected_tensors,
    load,
    release,
    this_device,
    this_platform,
    trt_log,
)
from cyclegan_edge.bundle import Device, Targets
from cyclegan_edge.contract import MULTIPLE, TENSORS, GraphPrecision, Interface
from cyclegan_edge.errors import ConfigError, ExportError
from cyclegan_edge.files import atomic_file, user_cache

Shapes = tuple[Shape, Shape, Shape]  # (N, H, W): the smallest, the one to be fastest at, the largest
OnProgress = Callable[
    [str, int, int], bool
]  # (phase, steps done, steps in all) -> go on? Called from TensorRT's threads.

_STRONGLY_TYPED_SINCE = (10, 12)
_ALWAYS_STRONGLY_TYPED_SINCE = (11, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """How TensorRT builds, whatever it builds."""

    workspace_mib: int = 1024  # scratch memory a layer may use; leaves an 8 GB board, which shares it, room to breathe
    optimization_level: int = 3  # 0 builds in seconds, 5 tries every kernel; 3 is TensorRT's default

    def __post_init__(self) -> None:
        if self.workspace_mib < 1:
            raise ConfigError(f"workspace_mib is {self.workspace_mib}, expected at least 1; try 1024.")
        if not 0 <= self.optimization_level <= 5:
            raise ConfigError(f"optimization_level is {self.optimization_level}, expected 0 to 5; try 3.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig(EngineOptions):
    """Everything that decides an engine besides the graph, the device and TensorRT's version."""

    shapes: Shapes
    precision: GraphPrecision = "fp16"
    interface: Interface = "rgb"  # of the graph; the backends here run "rgb" only
    gpus: tuple[str, ...] = ()  # compute capabilities, for RTX only; none: Ampere and newer
    timing_caches: Path | None = None  # folder with one file per device: the second build takes a fraction of the first

    def __post_init__(self) -> None:
        EngineOptions.__post_init__(self)
        smallest, best, largest = self.shapes
        for shape in self.shapes:
            if min(shape) < 1 or shape[1] % MULTIPLE or shape[2] % MULTIPLE:
                raise ConfigError(
                    f"shapes holds {shape}, expected (N, H, W) of at least 1 with H and W multiples of {MULTIPLE}."
                )
        if any(not low <= middle <= high for low, middle, high in zip(smallest, best, largest, strict=True)):
            raise ConfigError(f"shapes is {self.shapes}, expected none of N, H, W to shrink from one to the next.")
        check_gpus(self.gpus)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltEngine:
    """A plan and what its entry in the bundle needs."""

    plan: bytes = field(repr=False)
    device: Device | None  # of TensorRT
    targets: Targets | None  # of TensorRT for RTX
    precision: GraphPrecision
    shapes: Shapes


def check_gpus(gpus: Sequence[str]) -> None:
    """Raise ConfigError unless TensorRT for RTX builds for each of these compute capabilities."""
    for gpu in gpus:
        if gpu not in COMPUTE_CAPABILITIES:
            raise ConfigError(
                f"gpu is {gpu!r}, but TensorRT for RTX builds for {', '.join(COMPUTE_CAPABILITIES)}; other GPUs take "
                f"engines of TensorRT, built on them."
            )


def graph_precision_needed(edition: Edition, version: str, precision: GraphPrecision = "fp16") -> GraphPrecision:
    """Which ONNX graph `version` of an edition wants in order to build an engine of `precision`."""
    return "fp32" if _is_weakly_typed(edition, version) else precision


def _is_weakly_typed(edition: Edition, version: str) -> bool:
    return edition is TENSORRT and release(version) < _STRONGLY_TYPED_SINCE


def user_timing_caches() -> Path:
    """Where this user's timing caches lie unless told otherwise."""
    return user_cache("tensorrt")


def build_engine(
    graph: Path, config: EngineConfig, *, edition: Edition = TENSORRT, on_progress: OnProgress | None = None
) -> BuiltEngine:
    """Build the engine of `graph`: with TensorRT for this machine, which takes minutes on a desktop and up to half an
    hour on a small board, or with TensorRT for RTX for the GPUs of `config`, which takes a second or two.

    `on_progress` is called for every step and stops the build by returning False, as Ctrl-C does; it must not raise.
    Raises EngineError when TensorRT or the GPU is missing, ExportError when it cannot build this graph.
    """
    device = None if edition.portable else this_device(edition)
    builder, network, _parser = parse(graph, edition)  # the parser owns the network's weights
    trt = load(edition)
    log, title = trt_log(trt), f"{edition.title} {trt.__version__}"
    _check_network(trt, network, graph, config, edition)

    stop = threading.Event()
    monitor = _progress_monitor(trt, on_progress, stop)
    builder_config = _builder_config(trt, builder, config, monitor, edition)
    _add_profile(builder, builder_config, network, graph, config)
    cache_file = _timing_cache_file(config.timing_caches, device) if device else None
    _load_timing_cache(builder_config, cache_file)
    plan = _interruptible(lambda: builder.build_serialized_network(network, builder_config), stop)
    if plan is None and stop.is_set():
        raise ExportError(f"The engine of {graph.name} was not built: it was stopped.")
    if plan is None:
        raise ExportError(f"{title} could not build an engine from {graph.name} ({log.reason()}).")
    _save_timing_cache(builder_config, cache_file)
    capabilities = config.gpus or AMPERE_AND_NEWER
    targets = Targets(compute_capabilities=capabilities, tensorrt=trt.__version__, platform=this_platform())
    return BuiltEngine(
        plan=bytes(plan),
        device=device,
        targets=targets if edition.portable else None,
        precision=config.precision,
        shapes=config.shapes,
    )


def parse(graph: Path, edition: Edition) -> tuple[Builder, INetworkDefinition, OnnxParser]:
    """The network in the file `graph`, and what must outlive it. Raises EngineError and ExportError."""
    trt = load(edition)
    log = trt_log(trt)
    log.errors.clear()
    builder = create(trt.Builder, log)
    network = builder.create_network(_network_flags(edition, trt))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(graph)):
        reason = _parser_errors(parser) or log.reason()
        raise ExportError(f"{edition.title} {trt.__version__} cannot read {graph.name} ({reason}).")
    return builder, network, parser


def _network_flags(edition: Edition, trt: TensorRT) -> int:
    if edition is TENSORRT and _STRONGLY_TYPED_SINCE <= release(trt.__version__) < _ALWAYS_STRONGLY_TYPED_SINCE:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def _builder_config(
    trt: TensorRT, builder: Builder, config: EngineConfig, monitor: Any, edition: Edition
) -> IBuilderConfig:
    builder_config = builder.create_builder_config()
    builder_config.progress_monitor = monitor
    builder_config.builder_optimization_level = config.optimization_level
    builder_config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for `explain`; costs no speed
    builder_config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_mib << 20)
    if config.precision == "fp32":
        builder_config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and no more precise than half
    elif _is_weakly_typed(edition, trt.__version__):
        builder_config.set_flag(trt.BuilderFlag.FP16)
    if config.gpus and edition.portable:
        builder_config.num_compute_capabilities = len(config.gpus)
        for index, gpu in enumerate(config.gpus):
            builder_config.set_compute_capability(getattr(trt.ComputeCapability, COMPUTE_CAPABILITIES[gpu]), index)
    return builder_config


def _check_network(
    trt: TensorRT, network: INetworkDefinition, graph: Path, config: EngineConfig, edition: Edition
) -> None:
    """Refuse a graph that is not ours, or not of the precision that this TensorRT needs."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    found = [(tensor.name, tensor.dtype) for tensor in tensors]
    dtype = trt.DataType.FLOAT if config.interface == "float" else trt.DataType.UINT8
    if found != [(name, dtype) for name in TENSORS[config.interface]]:
        names = [name for name, _ in found]
        raise ExportError(f"{graph.name} has the tensors {names}, expected {expected_tensors(config.interface)}.")
    results = [network.get_layer(index).get_output(0) for index in range(network.num_layers)]
    given = "fp16" if any(result.dtype == trt.DataType.HALF for result in results) else "fp32"
    needed = graph_precision_needed(edition, trt.__version__, config.precision)
    if given != needed:
        raise ExportError(
            f"{graph.name} is {given}, but {edition.title} {trt.__version__} builds an {config.precision} "
            f"engine from the {needed} graph; pass that one."
        )


def _add_profile(
    builder: Builder, builder_config: IBuilderConfig, network: INetworkDefinition, graph: Path, config: EngineConfig
) -> None:
    fixed = tuple(network.get_input(0).shape)
    least, best, most = (_dimensions(shape, config.interface) for shape in config.shapes)
    if -1 not in fixed:  # a graph of fixed size has no profile
        if any(shape != fixed for shape in (least, best, most)):
            raise ExportError(
                f"{graph.name} takes only batches of {fixed}, but shapes is {config.shapes}; pass that size."
            )
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(TENSORS[config.interface][0], least, best, most)
    builder_config.add_optimization_profile(profile)


def _dimensions(shape: Shape, interface: Interface) -> tuple[int, ...]:
    """(N, H, W) -> what the graph's tensors have."""
    batch, height, width = shape
    return (batch, CHANNELS, height, width) if interface == "float" else (batch, height, width, CHANNELS)


def _progress_monitor(trt: TensorRT, on_progress: OnProgress | None, stop: threading.Event) -> Any:
    """TensorRT's IProgressMonitor; it cancels the build once `stop` is set or `on_progress` returns False."""
    lock = threading.Lock()  # TensorRT calls from several threads
    totals: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # a class of TensorRT's
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._tell(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1, totals.get(phase_name, step + 1))
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            totals.pop(phase_name, None)

        def _tell(self, phase: str, done: int, total: int) -> None:
            with lock:
                totals[phase] = total
                if on_progress and not stop.is_set() and not on_progress(phase, done, total):
                    stop.set()

    return Monitor()


def _interruptible(build: Callable[[], Any], stop: threading.Event) -> Any:
    """Build in a second thread: the main one receives Ctrl-C only while it is in Python, not in TensorRT."""
    built: Future[Any] = Future()

    def work() -> None:
        try:
            built.set_result(build())
        except BaseException as error:
            built.set_exception(error)

    try:
        threading.Thread(target=work, daemon=True).start()
        return built.result()
    except KeyboardInterrupt:
        stop.set()
        wait([built])  # until TensorRT has noticed
        raise


def _timing_cache_file(folder: Path | None, device: Device) -> Path | None:
    """One file per GPU, TensorRT and platform; timings of another would be refused anyway."""
    name = f"{device.gpu}-{device.compute_capability}-tensorrt-{device.tensorrt}-{device.platform}"
    return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", name) + ".cache") if folder else None


def _load_timing_cache(builder_config: IBuilderConfig, file: Path | None) -> None:
    if file is None:
        return
    cache = builder_config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if cache is None or not builder_config.set_timing_cache(cache, False):  # damaged, or of another device after all
        builder_config.set_timing_cache(builder_config.create_timing_cache(b""), False)


def _save_timing_cache(builder_config: IBuilderConfig, file: Path | None) -> None:
    if file is None:
        return
    try:
        with atomic_file(file) as partial:
            partial.write_bytes(bytes(builder_config.get_timing_cache().serialize()))
    except OSError:  # a full disk: the next build is slower, and the engine is there
        return


def _parser_errors(parser: OnnxParser) -> str:
    """TensorRT's words for the first three nodes that it cannot take."""
    refusals = [parser.get_error(index) for index in range(min(parser.num_errors, 3))]
    return "; ".join(f"{refusal.node_operator()} {refusal.node_name()}: {refusal.desc()}" for refusal in refusals)
