"""A bundle gets its engine: of TensorRT on the device that will run it, of TensorRT for RTX anywhere; without torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cyclegan_edge.backends.tensorrt.build import (
    EngineConfig,
    EngineOptions,
    OnProgress,
    Shapes,
    build_engine,
    check_gpus,
    graph_precision_needed,
    user_timing_caches,
)
from cyclegan_edge.backends.tensorrt.library import TENSORRT, Edition, load, this_device, why_unsupported
from cyclegan_edge.backends.tensorrt.plan import why_foreign
from cyclegan_edge.bundle import Artifact, Bundle, Manifest, read_bundle
from cyclegan_edge.contract import MULTIPLE, GraphPrecision, Size
from cyclegan_edge.errors import BundleError, ConfigError, EngineError
from cyclegan_edge.export.formats import Target
from cyclegan_edge.export.parity import OnVerdict, raise_failed
from cyclegan_edge.export.pipeline import add_to_bundle
from cyclegan_edge.files import sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRequest:
    """What a person wants of the engines of a bundle; where they say nothing, the model decides."""

    sizes: tuple[Size, ...] = ()  # (H, W) in px that it takes, fastest at the first; none: around the model's
    max_batch: int = 1  # pictures that it takes at once
    options: EngineOptions = EngineOptions()  # noqa: RUF009  # frozen
    gpus: tuple[str, ...] = ()  # compute capabilities, for TensorRT for RTX only; none: Ampere and newer

    def __post_init__(self) -> None:
        check_sizes(self.sizes)
        check_gpus(self.gpus)


def default_shapes(size: int, multiple: int = MULTIPLE) -> Shapes:
    """(N, H, W) of the smallest, the best and the largest input of an engine for a model trained at `size` px.

    Best is a 16:9 camera frame fitted to the model; half and double that are there for speed and for sharpness.
    """
    wide = round(size * 16 / 9 / multiple) * multiple
    half = max(1, size // 2 // multiple) * multiple
    return (1, half, half), (1, size, wide), (1, 2 * size, 2 * wide)


def engine_shapes(model: Manifest, sizes: Sequence[Size] = (), max_batch: int = 1) -> Shapes:
    """(N, H, W) of the smallest, the best and the largest input of an engine for `sizes`, (H, W) in px.

    It takes whatever lies between those, and is to be fastest at the first. None: `default_shapes`.
    Raises ConfigError for a size that the model does not take.
    """
    if not sizes:
        smallest, best, (_, height, width) = default_shapes(model.size, model.multiple)
        return smallest, best, (max_batch, height, width)
    check_sizes(sizes, model.multiple)
    heights, widths = zip(*sizes, strict=True)
    return (1, min(heights), min(widths)), (1, *sizes[0]), (max_batch, max(heights), max(widths))


def check_sizes(sizes: Sequence[Size], multiple: int = MULTIPLE) -> None:
    """Raise ConfigError unless every side of `sizes`, (H, W) in px, is a multiple of `multiple`."""
    for height, width in sizes:
        if height % multiple or width % multiple:
            fitting = [max(1, round(side / multiple)) * multiple for side in (width, height)]
            raise ConfigError(
                f"engine-size is {width}x{height}, but the model takes multiples of {multiple}; "
                f"try {fitting[0]}x{fitting[1]}."
            )


def add_engine(
    folder: Path,
    edition: Edition = TENSORRT,
    *,
    precision: GraphPrecision = "fp16",
    shapes: Shapes | None = None,
    options: EngineOptions = EngineOptions(),  # noqa: B008  # frozen
    gpus: tuple[str, ...] = (),
    on_progress: OnProgress | None = None,
    on_verdict: OnVerdict = raise_failed,
) -> Bundle:
    """Build an engine from the bundle's graph, compare it with PyTorch and with the float32 graph, and add it.

    shapes   (N, H, W) of the smallest, the best and the largest input; None: `default_shapes`
    gpus     compute capabilities, for TensorRT for RTX only; none: Ampere and newer

    An engine of TensorRT for RTX is kept without a comparison where no GPU here runs it. Raises EngineError when the
    edition or, for TensorRT, a GPU is missing, BundleError when the bundle lacks the graph that it needs. `on_verdict`
    is called when it cannot be built or is out of bounds; it is not kept then, and an older engine stays.
    """
    version = str(load(edition).__version__)
    bundle = read_bundle(folder)
    needed = graph_precision_needed(edition, version, precision)
    graph = bundle.artifact("onnx", needed)
    if graph is None:
        raise BundleError(
            f"{folder} holds no {needed} graph, which {edition.title} {version} needs; export it again with --{needed}."
        )
    config = EngineConfig(
        **asdict(options),
        shapes=shapes or engine_shapes(bundle.manifest),
        precision=precision,
        gpus=gpus,
        timing_caches=user_timing_caches(),
    )
    source, file = bundle.path(graph), f"generator-{precision}{'-rtx' if edition.portable else ''}.engine"

    def make(_: Bundle, into: Path) -> Artifact:
        built = build_engine(source, config, edition=edition, on_progress=on_progress)
        path = into / file
        path.write_bytes(built.plan)
        return Artifact(
            file=file,
            format=edition.name,
            precision=precision,
            sha256=sha256(path),
            device=built.device,
            targets=built.targets,
            shapes=built.shapes,
        )

    target = Target(file=file, precision=precision, make=make, why_not_here=partial(_why_not_here, edition))
    return add_to_bundle(bundle, [target], on_verdict)


def rebuild_engine(
    folder: Path,
    precision: GraphPrecision,
    *,
    on_progress: OnProgress | None = None,
    on_verdict: OnVerdict = raise_failed,
) -> Bundle:
    """Build TensorRT's engine of `precision` again, for the same shapes; see `add_engine`."""
    engine = read_bundle(folder).artifact("tensorrt", precision)
    shapes = None
    if engine is not None and len(engine.shapes) == 3:
        smallest, best, largest = engine.shapes
        shapes = smallest, best, largest
    return add_engine(folder, precision=precision, shapes=shapes, on_progress=on_progress, on_verdict=on_verdict)


def _why_not_here(edition: Edition, artifact: Artifact) -> str | None:
    """Why an engine that was built here cannot be run here; None where it can, or has to."""
    if not edition.portable:
        return None
    later = "it was kept without a comparison, so type `cyclegan-edge verify` where it will run"
    try:
        here = this_device(edition)
    except EngineError as error:
        return f"{artifact.file} cannot run here ({str(error).rstrip('.')}); {later}."
    reason = why_unsupported(edition, here) or why_foreign(artifact, here)
    return f"{reason}; {later}." if reason else None
